// What htmx should not do: swap in what is there already, so that nothing loses focus and no reader repeats itself.
"use strict";
(() => {
  const same = (one, other) => one && other && one.innerHTML.trim() === other.innerHTML.trim();
  document.addEventListener("htmx:beforeSwap", (event) => {
    const detail = event.detail;
    if (detail.target.id !== "main" || !detail.shouldSwap) return;
    const fresh = new DOMParser().parseFromString(detail.serverResponse, "text/html");
    const standing = document.getElementById("standing");
    // A closed or opened part stays as it is.
    for (const part of document.querySelectorAll("main details[id]"))
      fresh.getElementById(part.id)?.toggleAttribute("open", part.open);
    // Somebody who fills in a form is not disturbed; the next change brings all of it.
    const typing = document.activeElement?.closest("main form") || document.querySelector("main form[data-busy]");
    if (typing || same(document.getElementById("main"), fresh.getElementById("main"))) {
      detail.shouldSwap = false;
      const told = fresh.getElementById("standing");
      if (!same(standing, told)) standing.replaceChildren(...told.childNodes);
    } else {
      detail.serverResponse = fresh.documentElement.outerHTML;
    }
  });
  document.addEventListener("htmx:oobBeforeSwap", (event) => {
    if (same(event.detail.target, event.detail.fragment.firstElementChild ?? event.detail.fragment))
      event.detail.shouldSwap = false;
  });
})();
