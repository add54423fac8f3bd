// The client of gRPC-Web and of the Connect protocol, on the library that its authors keep: `web.mjs PORT`. It prints
// what it found wrong and ends with 1, or `passed N`.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";

// Modules are not looked for in NODE_PATH, but what they are made from is.
const require = createRequire(import.meta.url);
const { Code, ConnectError, createClient } = require("@connectrpc/connect");
const { createConnectTransport, createGrpcWebTransport } = require("@connectrpc/connect-node");
const { createFileRegistry, fromBinary } = require("@bufbuild/protobuf");
const { FileDescriptorSetSchema } = require("@bufbuild/protobuf/wkt");

setTimeout(() => process.exit(3), 120_000).unref();

const set = fromBinary(FileDescriptorSetSchema, readFileSync(process.env.WEFT_INTEROP_DESCRIPTORS));
const registry = createFileRegistry(set);
const service = registry.getService("grpc.testing.TestService");
const baseUrl = `http://127.0.0.1:${process.argv[2]}`;

const transports = {};
for (const httpVersion of ["1.1", "2"]) {
  for (const useBinaryFormat of [true, false]) {
    const format = useBinaryFormat ? "proto" : "json";
    transports[`connect ${format} over HTTP/${httpVersion}`] = createConnectTransport({ baseUrl, httpVersion, useBinaryFormat });
  }
  transports[`gRPC-Web over HTTP/${httpVersion}`] = createGrpcWebTransport({ baseUrl, httpVersion });
}

const ECHO = { "x-grpc-test-echo-initial": "test_initial_metadata_value" };
const ECHO_TRAILING = "x-grpc-test-echo-trailing-bin";

async function fails(call, code, message) {
  const error = await call.then(
    () => assert.fail("it succeeded"),
    (error) => ConnectError.from(error),
  );
  assert.equal(Code[error.code], Code[code], error.message);
  if (message !== undefined) assert.equal(error.rawMessage, message);
  return error;
}

async function sizes(stream) {
  const found = [];
  for await (const response of stream) found.push(response.payload.body.length);
  return found;
}

const cases = {
  async empty_unary(client) {
    await client.emptyCall({});
  },
  async large_unary(client) {
    const request = { responseSize: 314159, payload: { body: new Uint8Array(271828) } };
    const response = await client.unaryCall(request);
    assert.equal(response.payload.body.length, 314159);
    assert.ok(response.payload.body.every((byte) => byte === 0));
  },
  async metadata(client) {
    let header, trailer;
    const headers = { ...ECHO, [ECHO_TRAILING]: Buffer.from([0, 1, 2, 255]).toString("base64") };
    await client.unaryCall({}, { headers, onHeader: (h) => (header = h), onTrailer: (t) => (trailer = t) });
    assert.equal(header.get("x-grpc-test-echo-initial"), ECHO["x-grpc-test-echo-initial"]);
    assert.deepEqual([...Buffer.from(trailer.get(ECHO_TRAILING), "base64")], [0, 1, 2, 255]);
  },
  async server_streaming(client) {
    const responseParameters = [31415, 9, 2653, 58979].map((size) => ({ size }));
    assert.deepEqual(await sizes(client.streamingOutputCall({ responseParameters })), [31415, 9, 2653, 58979]);
  },
  async empty_server_stream(client) {
    assert.deepEqual(await sizes(client.streamingOutputCall({})), []);
  },
  async messages_come_as_they_are_sent(client) {
    const aside = new AbortController();
    const responseParameters = [{ size: 7 }, { size: 7, intervalUs: 60_000_000 }];
    const stream = client.streamingOutputCall({ responseParameters }, { signal: aside.signal });
    const first = await stream[Symbol.asyncIterator]().next();
    assert.equal(first.value.payload.body.length, 7, "a minute before the next");
    aside.abort();
  },
  async status_code_and_message(client) {
    const message = "test status message \t\n € and 😈";
    await fails(client.unaryCall({ responseStatus: { code: Code.Aborted, message } }), Code.Aborted, message);
  },
  async unimplemented_method(client) {
    await fails(client.unimplementedMethod({}), Code.Unimplemented);
  },
  async deadline(client) {
    const responseParameters = [{ size: 1, intervalUs: 60_000_000 }];
    await fails(sizes(client.streamingOutputCall({ responseParameters }, { timeoutMs: 200 })), Code.DeadlineExceeded);
  },
};

let passed = 0;
let failed = 0;
for (const [name, transport] of Object.entries(transports)) {
  const client = createClient(service, transport);
  for (const [what, run] of Object.entries(cases)) {
    try {
      await run(client);
      passed += 1;
    } catch (error) {
      failed += 1;
      console.log(`${name}: ${what}: ${String(error.stack ?? error).split("\n").slice(0, 6).join(" | ")}`);
    }
  }
}
console.log(`passed ${passed}`);
process.exit(failed === 0 ? 0 : 1);
