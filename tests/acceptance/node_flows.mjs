// The main flows with the official stripe-node, unmodified. Run by test_node_sdk.py in a folder where it is installed:
// node node_flows.mjs HOST PORT SECRET_KEY PUBLISHABLE_KEY. Ends with 0 when every flow went as it should; prints their names.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer } from "node:http";
import Stripe from "stripe";

const [host, port, secretKey, publishableKey] = process.argv.slice(2);
const at = (key) => new Stripe(key, { host, port: Number(port), protocol: "http", maxNetworkRetries: 0, telemetry: false });
const stripe = at(secretKey);
const pay = { amount: 2000, currency: "eur", payment_method: "pm_card_visa", confirm: true };

const shop = "https://shop.example/done";

// The next address of a browser without cookies or script; a form is sent when one is given. Follows nothing by itself.
const follow = async (url, form) => {
  const body = form && new URLSearchParams(form);
  const answer = await fetch(url, { method: form ? "POST" : "GET", body, redirect: "manual" });
  assert.equal(answer.status, 303, `${url}: ${answer.status}`);
  return new URL(answer.headers.get("location"), url).href;
};

// The buyer goes to his bank, answers, and comes back; where the shop finds him.
const challenged = async (payment, answer) => {
  assert.deepEqual([payment.status, payment.next_action.type], ["requires_action", "redirect_to_url"]);
  const bank = await follow(payment.next_action.redirect_to_url.url);
  const end = new URL(await follow(await follow(bank, { answer })));
  assert.ok(end.href.startsWith(`${shop}?`));
  assert.equal(end.searchParams.get("payment_intent"), payment.id);
  return end.searchParams.get("redirect_status");
};

// A receiver of webhooks: its address, and a wait for the request whose body names an object: its signature and raw body.
// A new endpoint also gets what was stored before it and not yet handed out, so the first request may be about another object.
const receiver = async () => {
  const server = createServer();
  const got = [];
  server.on("request", async (request, response) => {
    const parts = [];
    for await (const part of request) parts.push(part);
    response.end();
    got.push({ signature: request.headers["stripe-signature"], body: Buffer.concat(parts) });
    server.emit("received");
  });
  const about = async (id) => {
    for (;;) {
      const found = got.find(({ body }) => body.includes(`"${id}"`));
      if (found) return found;
      await once(server, "received", { signal: AbortSignal.timeout(20000) });
    }
  };
  await once(server.listen(0, "127.0.0.1"), "listening");
  return { url: `http://127.0.0.1:${server.address().port}/hook`, about, close: () => server.close() };
};

const flows = {
  async "a payment is taken, with everything expanded"() {
    const paid = await stripe.paymentIntents.create({
      ...pay, automatic_payment_methods: { enabled: true, allow_redirects: "never" }, metadata: { order: "7" },
      expand: ["latest_charge.balance_transaction"],
    });
    assert.equal(paid.status, "succeeded");
    assert.deepEqual(paid.latest_charge.metadata, { order: "7" });
    assert.equal(paid.latest_charge.balance_transaction.net, 1970);
    assert.match(paid.lastResponse.requestId, /^req_/);
  },
  async "a decline is a StripeCardError, and another card pays"() {
    const payment = await stripe.paymentIntents.create({ amount: 2000, currency: "eur" });
    await assert.rejects(stripe.paymentIntents.confirm(payment.id, { payment_method: "pm_card_visa_chargeDeclined" }), (error) => {
      assert.ok(error instanceof Stripe.errors.StripeCardError);
      assert.equal(error.statusCode, 402);
      assert.equal(error.code, "card_declined");
      assert.equal(error.decline_code, "generic_decline");
      assert.equal(error.payment_intent.status, "requires_payment_method");
      return true;
    });
    const paid = await stripe.paymentIntents.confirm(payment.id, { payment_method: "pm_card_visa" });
    assert.equal(paid.status, "succeeded");
  },
  async "null unsets a parameter"() {
    const payment = await stripe.paymentIntents.create({ amount: 2000, currency: "eur", description: "x", metadata: { a: "1", b: "2" } });
    const changed = await stripe.paymentIntents.update(payment.id, { description: null, metadata: { a: null } });
    assert.equal(changed.description, null);
    assert.deepEqual(changed.metadata, { b: "2" });
  },
  async "an authorization is captured in part, another is canceled"() {
    const held = await stripe.paymentIntents.create({ ...pay, capture_method: "manual" });
    assert.equal(held.status, "requires_capture");
    const taken = await stripe.paymentIntents.capture(held.id, { amount_to_capture: 700 });
    assert.deepEqual([taken.status, taken.amount_received], ["succeeded", 700]);
    const other = await stripe.paymentIntents.create({ ...pay, capture_method: "manual" });
    const gone = await stripe.paymentIntents.cancel(other.id, { cancellation_reason: "duplicate" });
    assert.deepEqual([gone.status, gone.cancellation_reason], ["canceled", "duplicate"]);
  },
  async "a payment is refunded in part and then whole"() {
    const paid = await stripe.paymentIntents.create(pay);
    const first = await stripe.refunds.create({ payment_intent: paid.id, amount: 500 });
    const rest = await stripe.refunds.create({ payment_intent: paid.id });
    assert.deepEqual([first.status, rest.amount], ["succeeded", 1500]);
    const charge = await stripe.charges.retrieve(paid.latest_charge);
    assert.equal(charge.refunded, true);
    await assert.rejects(stripe.refunds.create({ payment_intent: paid.id }), { code: "charge_already_refunded" });
  },
  async "a card is kept with its customer"() {
    const customer = await stripe.customers.create({ name: "Ada", email: "ada@example.com" });
    const method = await stripe.paymentMethods.attach("pm_card_mastercard", { customer: customer.id });
    const paid = await stripe.paymentIntents.create({ ...pay, customer: customer.id, payment_method: method.id, off_session: true });
    assert.equal(paid.status, "succeeded");
    const kept = await stripe.customers.listPaymentMethods(customer.id);
    assert.deepEqual(kept.data.map((one) => one.id), [method.id]);
    assert.equal((await stripe.paymentMethods.detach(method.id)).customer, null);
    assert.equal((await stripe.customers.del(customer.id)).deleted, true);
  },
  async "lists page by themselves"() {
    const customer = await stripe.customers.create();
    const made = [];
    for (let n = 0; n < 7; n++) {
      made.unshift((await stripe.paymentIntents.create({ amount: 1000 + n, currency: "eur", customer: customer.id })).id);
    }
    const listed = [];
    for await (const one of stripe.paymentIntents.list({ customer: customer.id, limit: 3 })) listed.push(one.id);
    assert.deepEqual(listed, made);
  },
  async "events and balance"() {
    const paid = await stripe.paymentIntents.create(pay);
    const events = await stripe.events.list({ types: ["payment_intent.succeeded"], limit: 10 });
    const event = events.data.find((one) => one.data.object.id === paid.id);
    assert.equal((await stripe.events.retrieve(event.id)).type, "payment_intent.succeeded");
    const balance = await stripe.balance.retrieve();
    assert.ok(balance.pending.some((one) => one.currency === "eur" && one.amount > 0));
    const [entry] = (await stripe.balanceTransactions.list({ source: paid.latest_charge })).data;
    assert.deepEqual([entry.amount, entry.fee, entry.type], [2000, 30, "charge"]);
  },
  async "each kind of refusal is an error of its own"() {
    const kinds = [
      [() => stripe.paymentIntents.create({ amount: 2000 }), "StripeInvalidRequestError", 400],
      [() => stripe.paymentIntents.retrieve("pi_nowhere"), "StripeInvalidRequestError", 404],
      [() => at("sk_test_nobody").balance.retrieve(), "StripeAuthenticationError", 401],
      [() => at(publishableKey).balance.retrieve(), "StripePermissionError", 403],
    ];
    for (const [call, type, statusCode] of kinds) await assert.rejects(call(), { type, statusCode });
  },
  async "a key is one request"() {
    const idempotencyKey = `node-${Date.now()}`;
    const first = await stripe.paymentIntents.create(pay, { idempotencyKey });
    const again = await stripe.paymentIntents.create(pay, { idempotencyKey });
    assert.equal(first.id, again.id);
    assert.equal(again.lastResponse.headers["idempotent-replayed"], "true");
    await assert.rejects(stripe.paymentIntents.create({ ...pay, amount: 2001 }, { idempotencyKey }), { type: "StripeIdempotencyError" });
  },
  async "a Checkout Session from its creation to its end"() {
    const line = { price_data: { currency: "eur", unit_amount: 1250, product_data: { name: "Coffee" } }, quantity: 2 };
    const made = await stripe.checkout.sessions.create({
      mode: "payment", success_url: shop, cancel_url: shop, client_reference_id: "order-7", line_items: Array(4).fill(line),
    });
    assert.deepEqual([made.status, made.payment_status, made.amount_total], ["open", "unpaid", 10000]);
    const page = await fetch(made.url);
    assert.deepEqual([page.status, page.headers.get("content-type")], [200, "text/html; charset=utf-8"]);
    const changed = await stripe.checkout.sessions.update(made.id, { metadata: { basket: "9" } });
    assert.deepEqual(changed.metadata, { basket: "9" });
    const names = [];
    for await (const item of stripe.checkout.sessions.listLineItems(made.id, { limit: 3 })) names.push(item.description);
    assert.deepEqual(names, Array(4).fill("Coffee"));
    const expired = await stripe.checkout.sessions.expire(made.id);
    assert.equal(expired.status, "expired");
    assert.equal((await stripe.checkout.sessions.retrieve(made.id)).client_reference_id, "order-7");
    const listed = await stripe.checkout.sessions.list({ status: "expired" });
    assert.ok(listed.data.some((one) => one.id === made.id));
    await assert.rejects(stripe.checkout.sessions.expire(made.id), { type: "StripeInvalidRequestError" });
  },
  async "a challenge passed pays, one refused does not"() {
    const asked = { ...pay, payment_method: "pm_card_threeDSecure2Required", return_url: shop };
    const passed = await stripe.paymentIntents.create(asked);
    assert.equal(await challenged(passed, "pass"), "succeeded");
    const paid = await stripe.paymentIntents.retrieve(passed.id, { expand: ["latest_charge"] });
    assert.equal(paid.status, "succeeded");
    assert.equal(paid.latest_charge.payment_method_details.card.three_d_secure.authentication_flow, "challenge");
    const refused = await stripe.paymentIntents.create(asked);
    assert.equal(await challenged(refused, "fail"), "failed");
    const failed = await stripe.paymentIntents.retrieve(refused.id);
    assert.equal(failed.last_payment_error.code, "payment_intent_authentication_failure");
    await assert.rejects(stripe.paymentIntents.create({ ...asked, error_on_requires_action: true }), { type: "StripeCardError" });
  },
  async "a card pays at the till"() {
    const reader = await stripe.terminal.readers.create({ registration_code: "simulated-wpe", label: "Till" });
    const payment = await stripe.paymentIntents.create({ amount: 999, currency: "eur", payment_method_types: ["card_present"] });
    const waiting = await stripe.terminal.readers.processPaymentIntent(reader.id, { payment_intent: payment.id });
    assert.equal(waiting.action.status, "in_progress");
    const done = await stripe.testHelpers.terminal.readers.presentPaymentMethod(reader.id);
    assert.equal(done.action.status, "succeeded");
    assert.equal((await stripe.paymentIntents.retrieve(payment.id)).status, "succeeded");
    assert.equal((await stripe.terminal.readers.del(reader.id)).deleted, true);
  },
  async "a delivered webhook is verified by constructEvent"() {
    const { url, about, close } = await receiver();
    const endpoint = await stripe.webhookEndpoints.create({ url, enabled_events: ["payment_intent.succeeded"] });
    try {
      const paid = await stripe.paymentIntents.create(pay);
      const { signature, body } = await about(paid.id);
      const event = stripe.webhooks.constructEvent(body, signature, endpoint.secret);
      assert.deepEqual([event.type, event.data.object.id], ["payment_intent.succeeded", paid.id]);
      const forged = Buffer.from(body.toString().replace("2000", "9000"));
      assert.throws(() => stripe.webhooks.constructEvent(forged, signature, endpoint.secret), { type: "StripeSignatureVerificationError" });
    } finally {
      await stripe.webhookEndpoints.del(endpoint.id);
      close();
    }
  },
  async "our own resources by rawRequest"() {
    const open = (description) => stripe.rawRequest("POST", "/v1/ledger/accounts", { currency: "eur", description });
    const [debit, credit] = [await open("till"), await open("goods")];
    const moved = await stripe.rawRequest("POST", "/v1/ledger/transfers", { debit: debit.id, credit: credit.id, amount: 5, currency: "eur" });
    assert.deepEqual([moved.object, moved.amount], ["ledger.transfer", 5]);
    const trial = await stripe.rawRequest("GET", "/v1/ledger/trial_balance");
    assert.equal(trial.balanced, true);
  },
};

for (const [name, flow] of Object.entries(flows)) {
  try {
    await flow();
  } catch (error) {
    console.error(`${name}:`, error);
    process.exitCode = 1;
    continue;
  }
  console.log(name);
}
