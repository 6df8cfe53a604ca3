// Makes typing easier; the page works without it. Runs nothing inline, loads nothing, and never sees more than this page's fields.
(() => {
  "use strict";
  const by = (id) => document.getElementById(id);

  // Brand by the first digits; the same ranges as the server's table. `groups` is how the card prints its number.
  const brands = [
    ["visa", "Visa", /^4/, [4, 4, 4, 4, 3], 3],
    ["mastercard", "Mastercard", /^(5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720)/, [4, 4, 4, 4], 3],
    ["amex", "American Express", /^3[47]/, [4, 6, 5], 4],
    ["discover", "Discover", /^(6011|64[4-9]|65)/, [4, 4, 4, 4, 3], 3],
    ["diners", "Diners Club", /^(30[0-5]|3095|36|3[89])/, [4, 6, 4, 5], 3],
    ["jcb", "JCB", /^(352[89]|35[3-8])/, [4, 4, 4, 4, 3], 3],
    ["unionpay", "UnionPay", /^(62|81)/, [4, 4, 4, 4, 3], 3],
  ];
  const usual = [null, "", null, [4, 4, 4, 4, 3], 4];
  const brandOf = (digits) => brands.find((one) => one[2].test(digits)) || usual;

  // Rewrites a field as `shape` wants it, with the caret behind the same digit as before.
  const reshape = (field, shape) => {
    const before = field.value.slice(0, field.selectionStart).replace(/\D/g, "").length;
    const shaped = shape(field.value);
    if (shaped === field.value) return;
    const atEnd = field.selectionStart === field.value.length;
    field.value = shaped;
    let place = 0;
    for (let seen = 0; place < shaped.length && seen < before; place++) if (/\d/.test(shaped[place])) seen++;
    if (atEnd) place = shaped.length;
    field.setSelectionRange(place, place);
  };

  const number = by("number"), expiry = by("expiry"), cvc = by("cvc");
  if (number) {
    const box = by("number-box"), spoken = by("brand-name");
    const spaced = (text) => {
      const digits = text.replace(/\D/g, "").slice(0, 19), parts = [];
      let from = 0;
      for (const size of brandOf(digits)[3]) { if (from < digits.length) parts.push(digits.slice(from, from + size)); from += size; }
      return parts.join(" ");
    };
    const typed = () => {
      reshape(number, spaced);
      const [name, words, , , length] = brandOf(number.value.replace(/\D/g, ""));
      if (name) box.dataset.brand = name; else delete box.dataset.brand;
      if (spoken.textContent !== words) spoken.textContent = words;
      cvc.maxLength = length;
    };
    number.addEventListener("input", typed);
    expiry.addEventListener("input", (event) => {
      if ((event.inputType || "").startsWith("delete")) return;
      reshape(expiry, (text) => {
        let digits = text.replace(/\D/g, "");
        if (/^[2-9]/.test(digits) || /^1\s*\//.test(text)) digits = "0" + digits;
        if (digits.length > 4 && digits.slice(2, 4) === "20") digits = digits.slice(0, 2) + digits.slice(4);
        digits = digits.slice(0, 4);
        return digits.length < 2 ? digits : digits.slice(0, 2) + " / " + digits.slice(2);
      });
    });
    cvc.addEventListener("input", () => reshape(cvc, (text) => text.replace(/\D/g, "")));
    typed();
  }

  // One press is one payment; the server holds to that too. When the browser shows the page again it can be used again.
  const form = by("form"), pay = by("pay");
  if (form) {
    const text = by("pay-text"), usualText = text.textContent;
    let sent = false;
    form.addEventListener("submit", (event) => {
      if (sent) { event.preventDefault(); return; }
      sent = true;
      pay.setAttribute("aria-disabled", "true");
      text.textContent = pay.dataset.busy;
    });
    addEventListener("pageshow", () => { sent = false; pay.removeAttribute("aria-disabled"); text.textContent = usualText; });
  }

  const forward = by("forward"), waiting = by("waiting");
  if (forward) setTimeout(() => location.replace(forward.dataset.url), Number(forward.dataset.wait));
  if (waiting) setTimeout(() => location.replace(waiting.dataset.url), 2500);
})();
