// Retries an operation until it is answered, with fetch.

/**
 * Send one operation.
 *
 * key: of an operation that an earlier call began; a new one by default.
 * options: what fetch takes, such as method, headers and body. The body is text, a
 * Blob or a FormData, not a stream, because every try sends it again.
 */
export async function sendOnce(
  url,
  { key = crypto.randomUUID(), tries = 6, ...options } = {},
) {
  const headers = new Headers(options.headers);
  headers.set("Idempotency-Key", `"${key}"`);
  for (let number = 1; ; number++) {
    let pause = 200 * 2 ** number;
    try {
      // Longer than a duplicate waits there; or until the caller gives up.
      const patience = AbortSignal.timeout(65_000);
      const signal = AbortSignal.any([patience, options.signal ?? patience]);
      const response = await fetch(url, { method: "POST", ...options, headers, signal });
      if (number === tries || !maySucceedLater(response)) return response;
      pause = 1000 * Number(response.headers.get("Retry-After")) || pause;
    } catch (error) {
      // A broken connection leaves open what happened; the key makes it safe to
      // try again.
      if (number === tries || options.signal?.aborted) throw error;
    }
    // The random part keeps pages that failed together from retrying together.
    await new Promise((resolve) => setTimeout(resolve, pause + 200 * Math.random()));
  }
}

function maySucceedLater(response) {
  if ([502, 504].includes(response.status)) return true; // A proxy got no answer.
  // Without Retry-After these are final.
  const named = response.headers.has("Retry-After");
  return named && [409, 425, 429, 503].includes(response.status);
}
