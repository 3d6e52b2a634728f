// Reads rooms as the original did: Express, a limiter that counts in Redis,
// and Redis in front of Postgres. A cluster of two.
//
//   node server.js --listen HOST:PORT [--tuned]
//
// As documented: the limiter's script, the room and its participants are a
// trip to Redis each, and what was cached is parsed and made anew. Tuned: the
// limit is counted in the process, one trip brings a reply that is sent as it
// is, and Express makes no entity tag. No token is asked for: the original
// protects other routes.
import cluster from "node:cluster";
import express from "express";
import { rateLimit } from "express-rate-limit";
import pg from "pg";
import { RedisStore } from "rate-limit-redis";
import { createClient } from "redis";

const WORKERS = 2;
const SHORT = 60; // seconds: participants
const MEDIUM = 300; // seconds: rooms

const tuned = process.argv.includes("--tuned");
const [host, port] = process.argv[process.argv.indexOf("--listen") + 1].split(":");

const ROOM = `
  SELECT id, slug, name, topic, languages, level, capacity, version, created_at AS "createdAt", updated_at AS "updatedAt",
    (SELECT json_build_object('id', u.id, 'username', u.username, 'displayName', u.display_name) FROM users u WHERE u.id = owner_id) AS owner
  FROM rooms WHERE id = $1`;
const PARTICIPANTS = `
  SELECT json_build_object('id', u.id, 'username', u.username, 'displayName', u.display_name) AS user, p.state, p.joined_at AS "joinedAt"
  FROM participants p JOIN users u ON u.id = p.user_id WHERE p.room_id = $1 ORDER BY p.joined_at`;

if (cluster.isPrimary) {
  for (let n = 0; n < WORKERS; n++) cluster.fork();
  process.on("SIGTERM", () => {
    for (const worker of Object.values(cluster.workers)) worker.kill();
    process.exit(0);
  });
} else {
  await serve();
}

async function serve() {
  const redis = createClient({ url: process.env.REDIS_URL });
  redis.on("error", (error) => console.error(error));
  await redis.connect();
  const database = new pg.Pool({ connectionString: process.env.DATABASE_URL, max: 10 });
  const app = express();
  app.use(limiter(redis));
  app.get("/healthz", (_, response) => response.end());
  if (tuned) {
    app.set("etag", false);
    app.disable("x-powered-by");
  }
  app.get("/api/v1/rooms/:id", tuned ? quick(redis, database) : documented(redis, database));
  app.listen(Number(port), host);
}

function limiter(redis) {
  const options = { windowMs: 15 * 60 * 1000, limit: 100_000_000, standardHeaders: true, legacyHeaders: false };
  if (!tuned) options.store = new RedisStore({ prefix: "rl:api:", sendCommand: (...args) => redis.sendCommand(args) });
  return rateLimit(options);
}

// cached is the cache's read path: what Redis has, or what the query finds.
async function cached(redis, key, seconds, query) {
  const text = await redis.get(key);
  if (text !== null) return JSON.parse(text);
  const found = await query();
  if (found !== undefined) await redis.set(key, JSON.stringify(found), { EX: seconds });
  return found;
}

const roomOf = async (database, id) => (await database.query(ROOM, [id])).rows[0];
const participantsOf = async (database, id) => (await database.query(PARTICIPANTS, [id])).rows;

function documented(redis, database) {
  return async (request, response, next) => {
    try {
      const { id } = request.params;
      const room = await cached(redis, `room:id:${id}`, MEDIUM, () => roomOf(database, id));
      if (room === undefined) return response.status(404).json({ success: false, error: "Room not found" });
      const participants = await cached(redis, `room:participants:${id}`, SHORT, () => participantsOf(database, id));
      response.json({ success: true, data: { ...room, participants } });
    } catch (error) {
      next(error);
    }
  };
}

function quick(redis, database) {
  return async (request, response, next) => {
    try {
      const { id } = request.params;
      let text = await redis.get(`room:whole:${id}`);
      if (text === null) {
        const [room, participants] = await Promise.all([roomOf(database, id), participantsOf(database, id)]);
        if (room === undefined) return response.status(404).json({ success: false, error: "Room not found" });
        text = JSON.stringify({ success: true, data: { ...room, participants } });
        await redis.set(`room:whole:${id}`, text, { EX: SHORT });
      }
      response.setHeader("Content-Type", "application/json; charset=utf-8");
      response.end(text);
    } catch (error) {
      next(error);
    }
  };
}
