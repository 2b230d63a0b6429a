// What Node's HTTP server reads in a connection: one line of hexadecimal bytes in, one line of JSON out.
// Started by readers.py; ends when its input does.
'use strict';
const http = require('http');
const { Duplex } = require('stream');
const readline = require('readline');

function read(bytes, done) {
  const requests = [];
  let open = 0, refused = false, cut = false;
  const server = http.createServer({ requireHostHeader: false }, (request, response) => {
    const body = [];
    open += 1;
    request.on('data', (piece) => body.push(piece));
    request.on('error', () => {});
    request.on('end', () => {
      open -= 1;
      const { method, url, rawHeaders } = request;
      requests.push({ method, url, headers: rawHeaders, body: Buffer.concat(body).toString('hex') });
      response.end();
    });
  });
  server.on('clientError', (error) => {
    if (error.code === 'HPE_INVALID_EOF_STATE' || error.code === 'ECONNRESET') cut = true; else refused = true;
  });
  server.on('upgrade', ({ method, url, rawHeaders }, switched, rest) => {
    // What follows is another protocol's.
    requests.push({ method, url, headers: rawHeaders, body: '' });
    refused = refused || rest.length > 0;
  });
  const socket = new Duplex({ read() {}, write(chunk, encoding, next) { next(); } });
  socket.setTimeout = socket.setNoDelay = socket.setKeepAlive = socket.ref = socket.unref = () => socket;
  server.emit('connection', socket);
  socket.on('error', () => {});
  socket.push(bytes);
  // Some times round the loop: by then the requests that are whole have been told of, and so has the end.
  rounds(3, () => {
    socket.push(null);
    rounds(3, () => {
      socket.destroy();
      done({ requests, rest: refused ? 'refused' : cut || open > 0 ? 'incomplete' : 'nothing left' });
    });
  });
}

function rounds(count, then) {
  setImmediate(() => (count > 1 ? rounds(count - 1, then) : then()));
}

const lines = readline.createInterface({ input: process.stdin });
let queue = Promise.resolve();
lines.on('line', (line) => {
  queue = queue.then(() => new Promise((next) => read(Buffer.from(line, 'hex'), (said) => {
    process.stdout.write(JSON.stringify(said) + '\n', next);
  })));
});
