// Hocuspocus with its defaults. DATABASE names a SQLite file; without it documents live in memory.
import { Server } from "@hocuspocus/server";
import { SQLite } from "@hocuspocus/extension-sqlite";

const { PORT, DATABASE } = process.env;
const extensions = DATABASE ? [new SQLite({ database: DATABASE })] : [];
await new Server({ address: "127.0.0.1", port: Number(PORT), quiet: true, extensions }).listen();
