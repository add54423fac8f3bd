// The services of grpc.testing, read from the descriptor set that the tests' build wrote.
"use strict";

const fs = require("node:fs");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const descriptors = fs.readFileSync(process.env.WEFT_INTEROP_DESCRIPTORS);
const definition = loader.loadFileDescriptorSetFromBuffer(descriptors, { keepCase: true, defaults: true });
const { TestService, UnimplementedService } = grpc.loadPackageDefinition(definition).grpc.testing;

module.exports = {
  TestService,
  UnimplementedService,
  // Which case a call belongs to, so that a server can tell of it.
  CASE: "weft-case",
  ECHO_INITIAL: "x-grpc-test-echo-initial",
  ECHO_TRAILING: "x-grpc-test-echo-trailing-bin",
  // No limit on messages.
  OPTIONS: { "grpc.max_receive_message_length": -1, "grpc.max_send_message_length": -1 },
  tell: (...words) => process.stdout.write(`${words.join(" ")}\n`),
};
