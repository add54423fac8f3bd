// A gRPC peer on @grpc/grpc-js: `peer.js serve`, or `peer.js drive PORT`. What it prints is described in ../README.md.
"use strict";

// Whoever started it ends it long before; this is for the day when nobody does.
setTimeout(() => process.exit(3), 170_000).unref();

if (process.argv[2] === "serve") {
  require("./server.js").serve();
} else {
  require("./client.js").drive(process.argv[3]);
}
