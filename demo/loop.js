'use strict';
// Prints its own stack for ever: what a profiler should say of it can be read from its
// own output.

function log() {
  console.log(new Error().stack);
}

function inner() {
  log();
}

function outer() {
  for (;;) inner();
}

outer();
