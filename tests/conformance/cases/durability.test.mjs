// Acknowledged means durable: the server gets SIGKILL in the very moment a client learns that an edit is safe, and whoever could
// send the edit once more is gone before the server is back.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import * as decoding from 'lib0/decoding'
import * as Y from 'yjs'

import { versions } from '../support/clients.mjs'
import { ownServer, uniqueName } from '../support/server.mjs'
import { until } from '../support/until.mjs'

const ROUNDS = 4
const WRITERS = 8
const EDITS = [0, 1, 2, 3, 4]

/** How many of a y-websocket client's own elements came back: frames 0, 2, update that name its client id. */
const echoedClock = ({ doc, transport }) => transport.frames
  .filter((frame) => frame[0] === 0 && frame[1] === 2)
  .map((frame) => {
    const decoder = decoding.createDecoder(frame.subarray(2))
    return Y.parseUpdateMeta(decoding.readVarUint8Array(decoder)).to.get(doc.clientID) ?? 0
  })
  .reduce((highest, clock) => Math.max(highest, clock), 0)

/** Whether everything that the client wrote has been acknowledged. */
const acknowledged = {
  hocuspocus: (client) => client.provider.unsyncedChanges === 0,
  'y-websocket': (client) => echoedClock(client) === Y.getState(client.doc.store, client.doc.clientID)
}

/** One kill: in the moment in which the first of several writers of `version` learns that its edits are safe. */
const killOnAcknowledgement = async (t, server, version) => {
  const isAcknowledged = acknowledged[version.family]
  const writers = Array.from({ length: WRITERS }, () => {
    const name = uniqueName()
    return { name, client: version.open(t, { server: server.url, name }) }
  })
  const clients = writers.map(({ client }) => client)
  await until('the writers are synced', () =>
    clients.every((client) => client.synced && isAcknowledged(client)), clients)
  for (const client of clients) EDITS.forEach((edit) => client.doc.getArray('edits').push([edit]))
  assert.ok(clients.every((client) => !isAcknowledged(client)))
  const safe = await until('one writer is acknowledged', () => {
    const some = writers.filter(({ client }) => isAcknowledged(client))
    if (some.length > 0) server.kill()
    return some.length > 0 && some
  }, clients)
  clients.forEach((client) => client.leave())
  await server.start()
  const readers = safe.map(({ name }) => version.open(t, { server: server.url, name }))
  await until('the readers are synced', () => readers.every((reader) => reader.synced), readers)
  for (const reader of readers) {
    assert.deepEqual(reader.doc.getArray('edits').toArray(), EDITS)
    reader.leave()
  }
}

test(`what is acknowledged survives SIGKILL, ${ROUNDS} times with every version`, async (t) => {
  const server = await ownServer(t)
  for (const version of versions) {
    for (let round = 1; round <= ROUNDS; round += 1) {
      await t.test(`${version.label}, round ${round}`, (t) => killOnAcknowledgement(t, server, version))
    }
  }
})
