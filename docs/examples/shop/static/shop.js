// Two niceties of the order form: the protection switch acts at once and keeps what was chosen,
// and a line under the button counts how often the form was sent. The button is never disabled.
"use strict";

const order = document.getElementById("order");
const protection = document.getElementById("protection");
const sent = document.getElementById("sent");
let times = 0;

document.querySelector("[name=protection][role=switch]").addEventListener("change", () => {
  for (const name of ["product", "quantity"]) {
    const kept = document.createElement("input");
    Object.assign(kept, { type: "hidden", name, value: order.elements[name].value });
    protection.append(kept);
  }
  protection.submit();
});

order.addEventListener("submit", () => {
  times += 1;
  sent.textContent = `Sent ${["once", "twice"][times - 1] ?? `${times} times`}. Waiting for the answer.`;
});

// The back button may bring the page back as it was left.
addEventListener("pageshow", () => {
  times = 0;
  sent.textContent = sent.dataset.idle;
});
