// Hocuspocus with its defaults. DATABASE names a SQLite file; without it documents live in memory. REDIS_PORT joins several.
import { Server } from "@hocuspocus/server";
import { Redis } from "@hocuspocus/extension-redis";
import { SQLite } from "@hocuspocus/extension-sqlite";

const { PORT, DATABASE, REDIS_PORT } = process.env;
const extensions = [];
if (DATABASE) extensions.push(new SQLite({ database: DATABASE }));
if (REDIS_PORT) extensions.push(new Redis({ host: "127.0.0.1", port: Number(REDIS_PORT) }));
await new Server({ address: "127.0.0.1", port: Number(PORT), quiet: true, extensions }).listen();
