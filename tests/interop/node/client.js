// The client.
"use strict";

const assert = require("node:assert/strict");
const { once } = require("node:events");
const readline = require("node:readline");
const grpc = require("@grpc/grpc-js");
const contract = require("./contract.js");

// How long a call may take; a fraction of a second, unless the machine is overloaded.
const LIMIT_MS = 30_000;
// A response that does not come before its call is over.
const LATE = { size: 1, interval_us: 60_000_000 };
const { status: CODE } = grpc;
const { CASE, ECHO_INITIAL, ECHO_TRAILING, tell } = contract;

const zeros = (size) => ({ body: Buffer.alloc(size) });
const sized = (...sizes) => sizes.map((size) => ({ size }));

function metadataOf(name, more = []) {
  const metadata = new grpc.Metadata();
  metadata.set(CASE, name);
  for (const [key, value] of more) metadata.add(key, value);
  return metadata;
}

const within = (ms = LIMIT_MS) => ({ deadline: Date.now() + ms });

// A unary call: what came back, with all metadata.
function unary(client, method, request, name, { more, ms } = {}) {
  return new Promise((resolve, reject) => {
    const seen = {};
    const call = client[method](request, metadataOf(name, more), within(ms), (error, response) => {
      // The status comes after the response.
      if (error) reject(error);
      else seen.response = response;
    });
    call.on("metadata", (metadata) => (seen.initial = metadata));
    call.on("status", (status) => {
      seen.trailing = status.metadata;
      if (status.code === CODE.OK) setImmediate(() => resolve(seen));
    });
  });
}

// A stream of responses, read one by one.
function open(client, method, name, { request, more, ms } = {}) {
  const fixed = [metadataOf(name, more), within(ms)];
  const call = request ? client[method](request, ...fixed) : client[method](...fixed);
  const status = new Promise((resolve) => call.on("status", resolve));
  const initial = new Promise((resolve) => call.on("metadata", resolve));
  call.on("error", () => {});
  const responses = call[Symbol.asyncIterator]();
  const next = async () => {
    const { done, value } = await responses.next();
    return done ? undefined : value.payload.body.length;
  };
  const rest = async () => {
    const sizes = [];
    for (let size = await next(); size !== undefined; size = await next()) sizes.push(size);
    return sizes;
  };
  return { call, status, initial, next, rest };
}

async function fails(promise, code, message) {
  const status = await promise.then(
    (value) => ("code" in value ? value : assert.fail(`it succeeded instead of failing with ${CODE[code]}`)),
    (error) => error,
  );
  assert.equal(status.code, code, `the status is ${status.code} ${status.details ?? status.message}`);
  if (message !== undefined) assert.equal(status.details, message);
}

async function exchange(client, name, sent, received, fields = {}) {
  const request = { response_size: received, payload: zeros(sent), ...fields };
  const { response } = await unary(client, "UnaryCall", request, name);
  assert.ok(response.payload.body.equals(Buffer.alloc(received)), `${response.payload.body.length} bytes`);
}

function checkMetadata(initial, trailing, [first, last]) {
  assert.deepEqual(initial.get(ECHO_INITIAL), [first[1]]);
  assert.deepEqual(trailing.get(ECHO_TRAILING), [last[1]]);
}

async function endsWith(client, name, code, message) {
  const response_status = { code, message };
  await fails(unary(client, "UnaryCall", { response_status }, name), code, message);
  const { call, status } = open(client, "FullDuplexCall", name);
  call.write({ response_status });
  call.end();
  call.resume();
  await fails(status, code, message);
}

// Waits until a server has told so: whoever started this program hears the servers and writes a line.
const answers = readline.createInterface({ input: process.stdin });
async function until(what, name) {
  const answered = once(answers, "line");
  tell("await", what, name);
  await answered;
}

const cases = {
  async empty_unary({ client }, name) {
    assert.deepEqual((await unary(client, "EmptyCall", {}, name)).response, {});
  },
  async large_unary({ client }, name) {
    await exchange(client, name, 271828, 314159);
  },
  async client_compressed_unary({ client, compressing }, name) {
    // Not all libraries let a server see compression, so not all servers can honour `expect_compressed`.
    await exchange(compressing, name, 271828, 314159, { expect_compressed: { value: true } });
    await exchange(client, name, 271828, 314159, { expect_compressed: { value: false } });
  },
  async server_compressed_unary({ client }, name) {
    await exchange(client, name, 271828, 314159, { response_compressed: { value: true } });
    await exchange(client, name, 271828, 314159, { response_compressed: { value: false } });
  },
  async client_streaming({ client }, name) {
    const size = await new Promise((resolve, reject) => {
      const call = client.StreamingInputCall(metadataOf(name), within(), (error, response) =>
        error ? reject(error) : resolve(response.aggregated_payload_size),
      );
      for (const size of [27182, 8, 1828, 45904]) call.write({ payload: zeros(size) });
      call.end();
    });
    assert.equal(size, 74922);
  },
  async server_streaming({ client }, name) {
    const request = { response_parameters: sized(31415, 9, 2653, 58979) };
    const { rest } = open(client, "StreamingOutputCall", name, { request });
    assert.deepEqual(await rest(), [31415, 9, 2653, 58979]);
  },
  async ping_pong({ client }, name) {
    const { call, next, rest } = open(client, "FullDuplexCall", name);
    for (const [sent, received] of [[27182, 31415], [8, 9], [1828, 2653], [45904, 58979]]) {
      call.write({ response_parameters: sized(received), payload: zeros(sent) });
      assert.equal(await next(), received);
    }
    call.end();
    assert.deepEqual(await rest(), []);
  },
  async empty_stream({ client }, name) {
    const { call, rest, status } = open(client, "FullDuplexCall", name);
    call.end();
    assert.deepEqual(await rest(), []);
    assert.equal((await status).code, CODE.OK);
  },
  async half_close({ client }, name) {
    const { call, rest } = open(client, "HalfDuplexCall", name);
    for (const size of [10, 20, 30]) call.write({ response_parameters: sized(size) });
    await until("began", name);
    call.end();
    assert.deepEqual(await rest(), [10, 20, 30]);
  },
  async messages_over_4_mib({ client }, name) {
    await exchange(client, name, 5 << 20, 6 << 20);
  },
  async custom_metadata({ client }, name) {
    const more = [
      [ECHO_INITIAL, "test_initial_metadata_value"],
      [ECHO_TRAILING, Buffer.from(Array.from({ length: 256 }, (_, byte) => byte))],
    ];
    const request = { response_size: 314159, payload: zeros(271828) };
    const seen = await unary(client, "UnaryCall", request, name, { more });
    checkMetadata(seen.initial, seen.trailing, more);
    const { call, rest, initial, status } = open(client, "FullDuplexCall", name, { more });
    call.write({ response_parameters: sized(314159), payload: zeros(271828) });
    call.end();
    assert.deepEqual(await rest(), [314159]);
    checkMetadata(await initial, (await status).metadata, more);
  },
  async metadata_of_10k({ client }, name) {
    const more = [[ECHO_INITIAL, "m".repeat(10_000)], [ECHO_TRAILING, Buffer.from([0xab])]];
    const seen = await unary(client, "EmptyCall", {}, name, { more });
    checkMetadata(seen.initial, seen.trailing, more);
  },
  async status_code_and_message({ client }, name) {
    await endsWith(client, name, CODE.UNKNOWN, "test status message");
  },
  async special_status_message({ client }, name) {
    const message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
    await endsWith(client, name, CODE.UNKNOWN, message);
  },
  async unimplemented_method({ client }, name) {
    await fails(unary(client, "UnimplementedMethod", {}, name), CODE.UNIMPLEMENTED);
  },
  async unimplemented_service({ other }, name) {
    await fails(unary(other, "UnimplementedCall", {}, name), CODE.UNIMPLEMENTED);
  },
  async deadline_is_passed_on({ client }, name) {
    await unary(client, "EmptyCall", {}, name, { ms: 20_000 });
  },
  async cancel_after_begin({ client }, name) {
    let call;
    const ended = new Promise((resolve, reject) => {
      call = client.StreamingInputCall(metadataOf(name), within(), (error) =>
        error ? reject(error) : resolve({}),
      );
    });
    // Whoever awaits it does so after the cancel.
    ended.catch(() => {});
    await until("began", name);
    call.cancel();
    await fails(ended, CODE.CANCELLED);
  },
  async cancel_while_waiting({ client }, name) {
    const request = { response_parameters: [LATE] };
    const { call, status } = open(client, "StreamingOutputCall", name, { request });
    await until("began", name);
    call.cancel();
    await fails(status, CODE.CANCELLED);
  },
  async cancel_after_first_response({ client }, name) {
    const { call, next, status } = open(client, "FullDuplexCall", name);
    call.write({ response_parameters: [...sized(31415), LATE], payload: zeros(27182) });
    assert.equal(await next(), 31415);
    call.cancel();
    await fails(status, CODE.CANCELLED);
  },
  async timeout_on_sleeping_server({ client }, name) {
    const { call, status } = open(client, "FullDuplexCall", name, { ms: 500 });
    call.write({ response_parameters: [LATE] });
    await fails(status, CODE.DEADLINE_EXCEEDED);
  },
};

async function drive(port) {
  const connect = (Client, options) =>
    new Client(`127.0.0.1:${port}`, grpc.credentials.createInsecure(), { ...contract.OPTIONS, ...options });
  const clients = {
    client: connect(contract.TestService),
    other: connect(contract.UnimplementedService),
    compressing: connect(contract.TestService, { "grpc.default_compression_algorithm": 2 }),
  };
  for (const [name, run] of Object.entries(cases)) {
    try {
      await run(clients, name);
      tell("passed", name);
    } catch (error) {
      tell("failed", name, String(error.stack ?? error).replaceAll("\n", " | "));
    }
  }
  process.exit(0);
}

module.exports = { drive };
