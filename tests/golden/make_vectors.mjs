// Writes vectors.json, or the file that is named: frames as the real JavaScript libraries make them, beside what they mean.
//
// Clients' frames come from stock providers on a socket that records what they send. Servers' frames come from
// y-protocols and @hocuspocus/server. The result is the same at every run; bytes are hexadecimal.
import { writeFileSync } from "node:fs";

import { OutgoingMessage } from "@hocuspocus/server";
import { encode as encodeMsgpack } from "@msgpack/msgpack";
import * as hocuspocus2 from "hocuspocus-provider-2";
import * as hocuspocus3 from "hocuspocus-provider-3";
import * as hocuspocus4 from "hocuspocus-provider-4";
import * as decoding from "lib0/decoding";
import * as encoding from "lib0/encoding";
import { Sender } from "ws";
import { WebsocketProvider as YWebsocket1 } from "y-websocket-1";
import { WebsocketProvider as YWebsocket2 } from "y-websocket-2";
import { WebsocketProvider as YWebsocket3 } from "y-websocket-3";
import * as auth from "y-protocols/auth";
import { Awareness, encodeAwarenessUpdate } from "y-protocols/awareness";
import * as sync from "y-protocols/sync";
import * as Y from "yjs";

const NAMES = [
  "plan",
  "Überfällige Aufgaben",
  "計画/東京",
  "🌊🐚 ebb & tide 👩‍👩‍👧",
  "a".repeat(200),
  "水".repeat(66),
];
const TEXTS = ["", "x", "naïve café", "🌊", "tide ".repeat(60)];

const hex = (bytes) => Buffer.from(bytes).toString("hex");
const encoded = (write) => {
  const encoder = encoding.createEncoder();
  write(encoder);
  return encoding.toUint8Array(encoder);
};

function lib0() {
  const integers = [0, 1, 127, 128, 255, 16383, 16384, 2 ** 31 - 1, 2 ** 32, 2 ** 53 - 1];
  const arrays = [[], [0], Array(127).fill(7), Array(128).fill(8), Array(300).fill(255)];
  return {
    uint: integers.map((value) => ({ value, bytes: hex(encoded((e) => encoding.writeVarUint(e, value))) })),
    string: [...NAMES, ...TEXTS].map((value) => ({
      value,
      bytes: hex(encoded((e) => encoding.writeVarString(e, value))),
    })),
    bytes: arrays.map((value) => ({
      value: hex(value),
      bytes: hex(encoded((e) => encoding.writeVarUint8Array(e, Uint8Array.from(value)))),
    })),
  };
}

function frames() {
  return [0, 1, 125, 126, 127, 65535, 65536, 100000].map((length) => {
    const options = { fin: true, opcode: 2, mask: false, readOnly: true, rsv1: false };
    const [header] = Sender.frame(Buffer.alloc(length, 1), options);
    return { length, header: hex(header.subarray(0, header.length > 10 ? header.length - length : header.length)) };
  });
}

function document(text, clientID = 1) {
  const doc = new Y.Doc();
  doc.clientID = clientID;
  if (text) doc.getText("text").insert(0, text);
  return doc;
}

function updateFrom(clientID, text) {
  return Y.encodeStateAsUpdate(document(text, clientID));
}

/** A WebSocket that is open at once and records what is sent. */
function recorder() {
  const sent = [];
  let last;
  class RecordingSocket {
    static CONNECTING = 0;
    static OPEN = 1;
    OPEN = 1;
    readyState = 1;
    listeners = {};
    constructor() {
      last = this;
    }
    addEventListener(name, listener) {
      this.listeners[name] = listener;
    }
    removeEventListener(name) {
      delete this.listeners[name];
    }
    send(data) {
      sent.push(new Uint8Array(data));
    }
    close() {}
    emit(name, event) {
      (this.listeners[name] ?? this[`on${name}`])?.(event);
    }
  }
  return {
    RecordingSocket,
    open: () => last.emit("open", {}),
    receive: (bytes) => last.emit("message", { data: Uint8Array.from(bytes).buffer }),
    take: () => sent.splice(0),
  };
}

const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

/** What a recorded client frame means, read with lib0 alone. */
function meaning(frame, dialect) {
  const decoder = decoding.createDecoder(frame);
  const address = dialect === "hocuspocus" ? decoding.readVarString(decoder) : null;
  const type = decoding.readVarUint(decoder);
  const bytes = () => hex(decoding.readVarUint8Array(decoder));
  const text = () => decoding.readVarString(decoder);
  if (type === 0) {
    const kind = ["SyncStep1", "SyncStep2", "SyncUpdate"][decoding.readVarUint(decoder)];
    return { type: kind, address, [kind === "SyncStep1" ? "state_vector" : "update"]: bytes() };
  }
  if (type === 1) return { type: "Awareness", address, update: bytes() };
  if (type === 2) {
    decoding.readVarUint(decoder);
    const token = text();
    return { type: "AuthToken", address, token, version: decoding.hasContent(decoder) ? text() : null };
  }
  if (type === 3) return { type: "AwarenessQuery", address };
  if (type === 5) return { type: "Stateless", address, payload: text() };
  if (type === 7) return { type: "CloseDocument", address, reason: "" };
  throw new Error(`a client sent type ${type}`);
}

function syncFrame(address, write) {
  return encoded((e) => {
    if (address !== null) encoding.writeVarString(e, address);
    encoding.writeVarUint(e, 0);
    write(e);
  });
}

async function yWebsocketClient(Provider, client, name, text) {
  const doc = document(text);
  const socket = recorder();
  const provider = new Provider("ws://localhost", name, doc, {
    WebSocketPolyfill: socket.RecordingSocket,
    disableBc: true,
  });
  provider.awareness.setLocalState({ name: "Zoë 🐚" });
  socket.open();
  socket.receive(syncFrame(null, (e) => sync.writeSyncStep1(e, new Y.Doc())));
  socket.receive(Uint8Array.of(3));
  doc.getText("text").insert(0, "é");
  doc.getText("text").insert(1, "🌊");
  await settle();
  provider.destroy();
  return socket.take().map((frame) => ({
    client,
    document: name,
    frame: hex(frame),
    message: { ...meaning(frame, "y-websocket"), address: name },
  }));
}

async function hocuspocusClient(library, client, name, text, token, sessionId = null) {
  const doc = document(text);
  const socket = recorder();
  const websocketProvider = new library.HocuspocusProviderWebsocket({
    url: "ws://localhost",
    WebSocketPolyfill: socket.RecordingSocket,
  });
  const provider = new library.HocuspocusProvider({
    websocketProvider,
    name,
    document: doc,
    token,
    broadcast: false,
    sessionAwareness: sessionId !== null,
  });
  if (sessionId !== null) provider.sessionId = sessionId;
  provider.attach?.();
  const address = sessionId === null ? name : `${name}\0${sessionId}`;
  provider.awareness.setLocalState({ name: "Zoë 🐚" });
  socket.take();
  socket.open();
  await settle();
  socket.receive(new OutgoingMessage(address).writeAuthenticated(false).toUint8Array());
  socket.receive(syncFrame(address, (e) => sync.writeSyncStep1(e, new Y.Doc())));
  socket.receive(new OutgoingMessage(address).writeQueryAwareness().toUint8Array());
  socket.receive(new OutgoingMessage(address).writeTokenSyncRequest().toUint8Array());
  await settle();
  doc.getText("text").insert(0, "é");
  doc.getText("text").insert(1, "🌊");
  provider.sendStateless('{"überraschung":"🎉"}');
  await settle();
  provider.destroy();
  await settle();
  websocketProvider.destroy();
  return socket.take().map((frame) => ({
    client,
    document: name,
    frame: hex(frame),
    message: meaning(frame, "hocuspocus"),
  }));
}

async function clients() {
  const yWebsocket = [];
  const hocuspocus = [];
  const generations = { "1.5.4": YWebsocket1, "2.1.0": YWebsocket2, "3.1.0": YWebsocket3 };
  for (const [version, Provider] of Object.entries(generations)) {
    for (const [index, text] of TEXTS.entries()) {
      yWebsocket.push(...(await yWebsocketClient(Provider, `y-websocket ${version}`, NAMES[index], text)));
    }
  }
  const libraries = { "2.15.3": hocuspocus2, "3.4.4": hocuspocus3, "4.8.0": hocuspocus4 };
  for (const [version, library] of Object.entries(libraries)) {
    const client = `@hocuspocus/provider ${version}`;
    const cases = [
      ["plan", "", null],
      [NAMES[1], "x", "schlüssel-🔑"],
      [NAMES[2], "naïve café", "eyJhbGciOiJFZERTQSJ9.e30.c2lnbmF0dXJl"],
      [NAMES[4], "tide ".repeat(60), "t".repeat(300)],
    ];
    for (const [name, text, token] of cases) {
      hocuspocus.push(...(await hocuspocusClient(library, client, name, text, token)));
    }
  }
  const session = await hocuspocusClient(hocuspocus4, "@hocuspocus/provider 4.8.0", NAMES[3], "x", "t", "session-1");
  return { "y-websocket": yWebsocket, hocuspocus: [...hocuspocus, ...session] };
}

function awarenessUpdate(state) {
  const awareness = new Awareness(document("", 7));
  awareness.setLocalState(state);
  const update = encodeAwarenessUpdate(awareness, [7]);
  awareness.destroy();
  return update;
}

/** What a server sends: the dialect's method, its arguments and the bytes. */
function servers() {
  const yWebsocket = [];
  const hocuspocus = [];
  const states = [null, { name: "Zoë 🐚", cursor: { anchor: 1, head: 300 } }];
  const permissionDenied = "Zugriff verweigert 🚫";
  for (const name of [...NAMES, `${NAMES[3]}\0session-1`]) {
    const outgoing = () => new OutgoingMessage(name);
    const both = (method, bytes, write) => {
      yWebsocket.push({ method, arguments: [name, { hex: hex(bytes) }], payload: hex(encoded(write)) });
      const payload = encoded((e) => {
        encoding.writeVarString(e, name);
        write(e);
      });
      hocuspocus.push({ method, arguments: [name, { hex: hex(bytes) }], payload: hex(payload) });
    };
    // An update of more than 16,383 bytes has a length of three bytes; one is enough.
    for (const text of name === "plan" ? [...TEXTS, "tide ".repeat(4000)] : TEXTS) {
      const doc = document(text);
      const update = Y.encodeStateAsUpdate(doc);
      const inSync = (write) => (e) => {
        encoding.writeVarUint(e, 0);
        write(e);
      };
      both("step1", Y.encodeStateVector(doc), inSync((e) => sync.writeSyncStep1(e, doc)));
      both("step2", update, inSync((e) => sync.writeSyncStep2(e, doc)));
      both("update", update, inSync((e) => sync.writeUpdate(e, update)));
    }
    for (const state of states) {
      const update = awarenessUpdate(state);
      both("awareness", update, (e) => {
        encoding.writeVarUint(e, 1);
        encoding.writeVarUint8Array(e, update);
      });
    }
    const denied = encoded((e) => {
      encoding.writeVarUint(e, 2);
      auth.writePermissionDenied(e, permissionDenied);
    });
    yWebsocket.push({ method: "denied", arguments: [name, permissionDenied], payload: hex(denied) });
    const update = updateFrom(9, "🌊");
    const expected = [
      ["granted", [true], outgoing().writeAuthenticated(false)],
      ["granted", [false], outgoing().writeAuthenticated(true)],
      ["denied", [permissionDenied], outgoing().writePermissionDenied(permissionDenied)],
      ["denied", [""], outgoing().writePermissionDenied("")],
      ["acknowledged", [{ hex: hex(update) }], outgoing().writeSyncStatus(true)],
      ["refused", [], outgoing().writeSyncStatus(false)],
      ["reauthenticate", [], outgoing().writeTokenSyncRequest()],
    ];
    for (const [method, rest, message] of expected) {
      hocuspocus.push({ method, arguments: [name, ...rest], payload: hex(message.toUint8Array()) });
    }
  }
  return { "y-websocket": yWebsocket, hocuspocus };
}

function pushes() {
  const entries = NAMES.map((doc, index) => ({
    id: `01J9Z${index}`,
    doc,
    ...(index % 2 ? { lineage: `l-${index}` } : {}),
    update: updateFrom(index + 1, TEXTS[index % TEXTS.length]),
  }));
  const pull = Object.fromEntries(NAMES.map((doc) => [doc, Y.encodeStateVector(document("x"))]));
  const requests = [
    { device: "phone-🐚", entries, pull, since: 2 ** 40 },
    { device: "phone", entries: [], pull: {}, since: 0 },
    { device: "phone", entries: entries.slice(0, 1) },
  ];
  const written = (value, write) =>
    JSON.stringify(value, (_, each) => (each instanceof Uint8Array ? write(each) : each));
  return requests.map((request) => ({
    request: JSON.parse(written(request, (bytes) => ({ hex: hex(bytes) }))),
    msgpack: hex(encodeMsgpack(request)),
    json: written(request, (bytes) => Buffer.from(bytes).toString("base64")),
  }));
}

const vectors = { lib0: lib0(), frames: frames(), clients: await clients(), servers: servers(), push: pushes() };
const path = process.argv[2] ?? new URL("vectors.json", import.meta.url);
writeFileSync(path, `${JSON.stringify(vectors, null, 1)}\n`);
process.exit(0);
