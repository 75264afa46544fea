// Security keys: approve a request with one, make a new one. The page's own part ends with what the key signed: whether
// it counts is for the gate, which knows nothing of this page.
"use strict";
(() => {
  document.documentElement.classList.add("js");

  const pack = (buffer) =>
    btoa(String.fromCharCode(...new Uint8Array(buffer))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
  const unpack = (text) =>
    Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (one) => one.charCodeAt(0));

  // DSSE's pre-authentication encoding: what every other form of signature covers too.
  const encoded = (type, payload) => {
    const kind = new TextEncoder().encode(type);
    const head = new TextEncoder().encode(`DSSEv1 ${kind.length} ${type} ${payload.length} `);
    const all = new Uint8Array(head.length + payload.length);
    all.set(head);
    all.set(payload, head.length);
    return all;
  };

  const send = async (url, csrf, document) => {
    const headers = { "content-type": "application/json", "x-csrf-token": csrf };
    const answer = await fetch(url, { method: "POST", headers, body: JSON.stringify(document) });
    if (answer.status === 401) throw new Error("Your login is over: log in again, and nothing is lost.");
    const said = await answer.json();
    if (!answer.ok) throw new Error(said.detail ? `${said.detail}.` : `${said.title} (${answer.status}).`);
    return said;
  };

  const approve = async (form) => {
    const { approve: url, csrf, site, type, payload } = form.dataset;
    const chosen = form.elements.signer.selectedOptions[0];
    const challenge = await crypto.subtle.digest("SHA-256", encoded(type, unpack(payload)));
    const allowCredentials = chosen.value.split(" ").map((id) => ({ type: "public-key", id: unpack(id) }));
    const asked = { challenge, rpId: site, allowCredentials, userVerification: "required", timeout: 120000 };
    const publicKey = { ...asked, hints: ["security-key"] };
    const found = await navigator.credentials.get({ publicKey });
    const made = {
      id: pack(found.rawId),
      authenticatorData: pack(found.response.authenticatorData),
      clientDataJSON: pack(found.response.clientDataJSON),
      signature: pack(found.response.signature),
    };
    const signatures = [{ keyid: "", form: "webauthn", sig: btoa(JSON.stringify(made)) }];
    const said = await send(url, csrf, { payload, payloadType: type, signatures });
    const missing = said.missing ? `; missing: ${said.missing}` : "";
    tell(form, `Signed as ${chosen.textContent}: ${said.state}${missing}.`, "good");
    location.reload();
  };

  const enrol = async (form) => {
    const { enrol: url, csrf, site, cluster, challenge, algorithms } = form.dataset;
    const who = form.elements.who.value.trim();
    const publicKey = {
      challenge: unpack(challenge),
      rp: { id: site, name: `trueup ${cluster}` },
      user: { id: crypto.getRandomValues(new Uint8Array(16)), name: who, displayName: who },
      pubKeyCredParams: algorithms.split(" ").map((alg) => ({ type: "public-key", alg: Number(alg) })),
      authenticatorSelection: { userVerification: "required", residentKey: "discouraged" },
      attestation: "none",
      hints: ["security-key"], // not a passkey that is copied to other devices: the gate counts none
      timeout: 120000,
    };
    const made = await navigator.credentials.create({ publicKey });
    const said = await send(url, csrf, {
      id: pack(made.rawId),
      clientDataJSON: pack(made.response.clientDataJSON),
      attestationObject: pack(made.response.attestationObject),
    });
    form.querySelector("[data-made=id]").textContent = said.key_id;
    form.querySelector("[data-made=command]").textContent = `trueup keys add ${who} "${said.line}"`;
    form.querySelector(".made").hidden = false;
    tell(form, "The key is made. It does not count yet: its line has to be added to the keyring.", "good");
  };

  const tell = (form, text, kind) => {
    const told = form.querySelector(".told");
    told.textContent = text;
    told.className = `told ${kind}`;
  };

  const why = (error, form) => {
    const who = form.elements.signer?.selectedOptions[0].textContent;
    if (error.name === "NotAllowedError")
      return who
        ? `Nothing was signed: no security key of ${who}'s answered, or it was cancelled.`
        : "No key was made: it was cancelled, took too long, or the key knows no PIN and no fingerprint.";
    if (error.name === "SecurityError")
      return `This browser refuses security keys at this address (${location.origin}) for ${form.dataset.site}.`;
    if (error.name === "NotSupportedError") return "This security key knows none of the algorithms that count.";
    return error.name === "TypeError" ? "The agent did not answer. Try again." : error.message;
  };

  document.addEventListener("submit", async (event) => {
    const form = event.target;
    const act = "approve" in form.dataset ? approve : "enrol" in form.dataset ? enrol : null;
    if (!act) return;
    event.preventDefault();
    const button = form.querySelector("button");
    if (button.hasAttribute("aria-disabled")) return;
    if (!window.PublicKeyCredential) {
      tell(form, "This browser, or this address, does not offer security keys.", "bad");
      return;
    }
    form.dataset.busy = ""; // the page leaves the form alone meanwhile
    button.setAttribute("aria-disabled", "true");
    tell(form, "Touch your security key…", "");
    try {
      await act(form);
    } catch (error) {
      tell(form, why(error, form), "bad");
      delete form.dataset.busy;
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
})();
