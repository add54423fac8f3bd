// The server.
"use strict";

const timers = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const { TestService, CASE, ECHO_INITIAL, ECHO_TRAILING, OPTIONS, tell } = require("./contract.js");

// Tells when a call of a case begins, what time it has left, and whether its client cancels it.
function observe(call) {
  const [name] = call.metadata.get(CASE);
  if (name === undefined) return () => {};
  const deadline = call.getDeadline();
  if (deadline instanceof Date) tell("deadline", name, deadline.getTime() - Date.now());
  if (typeof deadline === "number" && Number.isFinite(deadline)) tell("deadline", name, deadline - Date.now());
  tell("began", name);
  // The library says `cancelled` of calls that ended in order, too.
  call.on("cancelled", () => call.answered || tell("cancelled", name));
  return (what) => tell(what, name);
}

// Waits for the client's half-close; false when the end of its stream was a cancel, which the library says only later.
async function halfClosed(call) {
  call.on("error", () => {});
  await new Promise((resolve) => call.on("end", resolve));
  await timers.setImmediate();
  return !call.cancelled;
}

function end(call, trailing) {
  call.answered = true;
  call.end(trailing);
}

// Sends back the metadata that is to come first, and returns what is to come last.
function echoMetadata(call) {
  const trailing = new grpc.Metadata();
  for (const value of call.metadata.get(ECHO_TRAILING)) trailing.add(ECHO_TRAILING, value);
  const initial = call.metadata.get(ECHO_INITIAL);
  if (initial.length > 0) {
    const metadata = new grpc.Metadata();
    for (const value of initial) metadata.add(ECHO_INITIAL, value);
    call.sendMetadata(metadata);
  }
  return trailing;
}

function askedStatus(request, metadata) {
  if (!request.response_status?.code) return undefined;
  const { code, message } = request.response_status;
  return Object.assign(new Error(message), { code, details: message, metadata });
}

const ended = (call) => call.cancelled || call.destroyed;

// Answers one request of a stream; false when that ended the call.
async function answer(call, request, trailing) {
  const status = askedStatus(request, trailing);
  if (status) {
    call.answered = true;
    call.emit("error", status);
    return false;
  }
  for (const { size, interval_us } of request.response_parameters) {
    if (interval_us) await timers.setTimeout(interval_us / 1000, undefined, { ref: false });
    if (ended(call)) return false;
    call.write({ payload: { body: Buffer.alloc(size) } });
  }
  return true;
}

const methods = {
  EmptyCall(call, respond) {
    observe(call);
    call.answered = true;
    respond(null, {}, echoMetadata(call));
  },
  UnaryCall(call, respond) {
    observe(call);
    call.answered = true;
    if (call.request.payload?.body.some((byte) => byte !== 0)) {
      respond({ code: grpc.status.INVALID_ARGUMENT, details: "the payload is not all zeros" });
      return;
    }
    const trailing = echoMetadata(call);
    const body = Buffer.alloc(call.request.response_size);
    respond(askedStatus(call.request, trailing) ?? null, { payload: { body } }, trailing);
  },
  async StreamingOutputCall(call) {
    observe(call);
    const trailing = echoMetadata(call);
    if (await answer(call, call.request, trailing)) end(call, trailing);
  },
  async StreamingInputCall(call, respond) {
    const told = observe(call);
    const trailing = echoMetadata(call);
    let size = 0;
    call.on("data", (request) => (size += request.payload.body.length));
    if (!(await halfClosed(call))) return;
    told("half-closed");
    call.answered = true;
    respond(null, { aggregated_payload_size: size }, trailing);
  },
  async FullDuplexCall(call) {
    const told = observe(call);
    const trailing = echoMetadata(call);
    let answered = Promise.resolve(true);
    call.on("data", (request) => {
      answered = answered.then((going) => going && answer(call, request, trailing));
    });
    if (!(await halfClosed(call))) return;
    told("half-closed");
    if (await answered) end(call, trailing);
  },
  async HalfDuplexCall(call) {
    const told = observe(call);
    const trailing = echoMetadata(call);
    const kept = [];
    call.on("data", (request) => kept.push(request));
    if (!(await halfClosed(call))) return;
    told("half-closed");
    for (const request of kept) if (!(await answer(call, request, trailing))) return;
    end(call, trailing);
  },
};

// Serves until its input ends, which it does when whoever started it is gone.
function serve() {
  process.stdin.on("end", () => process.exit(0)).resume();
  const server = new grpc.Server(OPTIONS);
  server.addService(TestService.service, methods);
  server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, port) => {
    if (error) throw error;
    tell("listening", port);
  });
}

module.exports = { serve };
