// Socket.IO on Node as its documentation has it: rooms, and the Redis adapter between the processes.
const { createServer } = require("node:http");
const { createAdapter } = require("@socket.io/redis-adapter");
const { createClient } = require("redis");
const { Server } = require("socket.io");

async function main() {
  const pubClient = createClient({ url: process.env.REDIS_URL });
  const subClient = pubClient.duplicate();
  await Promise.all([pubClient.connect(), subClient.connect()]);

  const httpServer = createServer();
  const io = new Server(httpServer, { adapter: createAdapter(pubClient, subClient) });

  io.on("connection", (socket) => {
    socket.on("join", (room, callback) => {
      socket.join(room);
      callback();
    });
    socket.on("message", (data) => {
      io.to(data.topic).emit("message", data);
    });
  });

  httpServer.listen(Number(process.env.PORT), "127.0.0.1");
}

main();
