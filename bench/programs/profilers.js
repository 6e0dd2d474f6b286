'use strict';
// Profilers that run inside of the process that they profile. Each gives, when it is
// stopped: how many samples it has, in how many seconds, and how long it took from the
// stop until they were written (`writing`, seconds).

const fs = require('fs');
const path = require('path');

const MICROSECONDS = 1000;
const seconds = (since) => Number(process.hrtime.bigint() - since) / 1e9;

/** V8's CPU profiler, by way of the inspector's protocol. */
function inspector(modules, file) {
  const session = new (require('inspector').Session)();
  const ask = (method, parameters) => new Promise((resolve, reject) => {
    session.post(method, parameters, (error, result) => (error ? reject(error) : resolve(result)));
  });
  return {
    async start() {
      session.connect();
      await ask('Profiler.enable');
      await ask('Profiler.setSamplingInterval', { interval: MICROSECONDS });
      await ask('Profiler.start');
    },
    async stop() {
      const stopped = process.hrtime.bigint();
      const { profile } = await ask('Profiler.stop');
      fs.writeFileSync(file, JSON.stringify(profile));
      session.disconnect();
      return {
        writing: seconds(stopped),
        samples: profile.samples.length,
        seconds: (profile.endTime - profile.startTime) / 1e6,
      };
    },
  };
}

/** The time profiler of @datadog/pprof, with the interval of the others. */
function datadog(modules, file) {
  const { encodeSync, time } = require(path.join(modules, '@datadog/pprof'));
  let started;
  return {
    start() {
      started = process.hrtime.bigint();
      time.start({ intervalMicros: MICROSECONDS, durationMillis: 60000 });
    },
    stop() {
      const duration = seconds(started);
      const stopped = process.hrtime.bigint();
      const profile = time.stop();
      fs.writeFileSync(file, encodeSync(profile));
      const samples = profile.sample.reduce((sum, { value }) => sum + Number(value[0]), 0);
      return { writing: seconds(stopped), samples, seconds: duration };
    },
  };
}

module.exports = { datadog, inspector };
