// Gives forms that stay on their page new idempotency keys.
//
// A key stands for one operation. So a form gets a new key when it has been answered, and when it
// is edited after it was sent. A double click, and a retry after a failure, send the same key.
// A form whose page is replaced needs none of this, and keeps its key.
(() => {
  "use strict";

  // A page may load the script again when a part of it is swapped.
  const LOADED = Symbol.for("flask_idempotent");
  if (window[LOADED]) return;
  window[LOADED] = true;

  const FIELD = document.currentScript.dataset.field;

  // How long after a click the second one of a double click may come, in milliseconds. A fast
  // server has answered the first one by then.
  const DOUBLE_CLICK = 500;

  // After going back, the fields are filled in as they were sent, with the key that was loaded.
  const [navigation] = performance.getEntriesByType("navigation");
  const isRestored = navigation?.type === "back_forward";

  // The keys that were sent, each with its last request where the page made it.
  const lastRequests = new Map();

  let lastClick = { time: -Infinity };

  // Keys

  const keyInputs = () => [...document.getElementsByName(FIELD)];

  function replaceKey(input) {
    // crypto.randomUUID is missing where a page is neither HTTPS nor localhost.
    const bytes = crypto.getRandomValues(new Uint8Array(16));
    input.value = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  // Replace a key that has been answered, as soon as no second click can come any more.
  function retire(key) {
    const wait = key === lastClick.key ? lastClick.time + DOUBLE_CLICK - performance.now() : 0;
    if (wait > 0) setTimeout(retire, wait, key);
    else keyInputs().filter((input) => input.value === key).forEach(replaceKey);
  }

  // Forms

  function keyInputOf({ target }) {
    const isForm = target instanceof HTMLFormElement;
    const form = isForm ? target : (target.form ?? target.closest?.("form"));
    return form && keyInputs().find((input) => input.form === form);
  }

  // What tells a form from others, without what changes when it is rendered again.
  function contentsOf(form) {
    // A field may have any name, such as "elements", and hides the form's member of that name.
    const tag = Node.prototype.cloneNode.call(form, false);
    tag.removeAttribute("class");
    const elements = Reflect.get(HTMLFormElement.prototype, "elements", form);
    const fields = [...elements].filter(({ name }) => ![FIELD, "csrf_token"].includes(name));
    const values = fields.map(({ name, value, checked }) => [name, value, checked]);
    return JSON.stringify([tag.outerHTML, values]);
  }

  function onClick(event) {
    const input = keyInputOf(event);
    if (!input) return;
    const [time, contents] = [performance.now(), contentsOf(input.form)];
    // The response to the first click may have brought the same form once more, with another key.
    const wasReplaced = contents === lastClick.contents && !lastClick.input.isConnected;
    if (wasReplaced && time < lastClick.time + DOUBLE_CLICK) input.value = lastClick.key;
    lastClick = { input, key: input.value, contents, time };
  }

  function onSend(event) {
    const input = keyInputOf(event);
    if (input && !lastRequests.has(input.value)) lastRequests.set(input.value, null);
  }

  function onEdit(event) {
    const input = keyInputOf(event);
    if (input && (isRestored || lastRequests.has(input.value))) replaceKey(input);
  }

  function listen(listener, ...types) {
    // Captured, so that it is called before the listeners that send the form.
    for (const type of types) addEventListener(type, listener, true);
  }

  listen(onClick, "click", "submit");
  listen(onSend, "formdata");
  listen(onEdit, "input", "reset");

  // Requests

  function holds(part, key) {
    if (part instanceof FormData || part instanceof URLSearchParams) return part.get(FIELD) === key;
    return typeof part === "string" && part.includes(key);
  }

  // Find the keys of this page that a request sends: in its address, a header or its body.
  function findKeys(request, ...parts) {
    const keys = keyInputs().map((input) => input.value);
    const found = keys.filter((key) => key && parts.some((part) => holds(part, key)));
    for (const key of found) lastRequests.set(key, request);
    return found;
  }

  // After these, 5xx and Retry-After the same operation may be tried again, or nobody knows yet how
  // far it got. Retry-After alone is not enough, because a page may not see another site's.
  const NOT_FINAL = [409, 425, 429];

  function isFinal(status, retryAfter) {
    return status < 500 && !NOT_FINAL.includes(status) && retryAfter === null;
  }

  // A request was answered. A later one with the same key may still be under way, such as that of a
  // form whose fields are checked while it is filled in.
  function onAnswer(request, keys) {
    keys.filter((key) => lastRequests.get(key) === request).forEach(retire);
  }

  // The connection may break within the body, and then the visitor tries again.
  async function arrival(response) {
    await response.clone().body?.pipeTo(new WritableStream());
  }

  const { fetch } = window;
  window.fetch = async (resource, options) => {
    const address = String(resource?.url ?? resource);
    const headers = new Headers(options?.headers ?? resource?.headers);
    const request = {};
    const keys = findKeys(request, address, [...headers.values()].join(), options?.body);
    const response = await fetch(resource, options);
    if (keys.length && isFinal(response.status, response.headers.get("Retry-After"))) {
      arrival(response).then(() => onAnswer(request, keys), () => {});
    }
    return response;
  };

  const heads = new WeakMap(); // The address and the headers of each XMLHttpRequest.
  const { open, setRequestHeader, send } = XMLHttpRequest.prototype;
  Object.assign(XMLHttpRequest.prototype, {
    open(method, address, ...rest) {
      heads.set(this, [String(address)]);
      return open.call(this, method, address, ...rest);
    },
    setRequestHeader(name, value) {
      heads.get(this)?.push(String(value));
      return setRequestHeader.call(this, name, value);
    },
    send(body) {
      const keys = findKeys(this, ...(heads.get(this) ?? []), body);
      const onLoad = () => {
        if (isFinal(this.status, this.getResponseHeader("Retry-After"))) onAnswer(this, keys);
      };
      if (keys.length) this.addEventListener("load", onLoad, { once: true });
      return send.call(this, body);
    },
  });
})();
