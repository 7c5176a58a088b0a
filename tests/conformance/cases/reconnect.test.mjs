// A server that dies and comes back: clients find it again, and what was written meanwhile arrives.
import assert from 'node:assert/strict'
import { test } from 'node:test'

import { versions } from '../support/clients.mjs'
import { ownServer, uniqueName } from '../support/server.mjs'
import { until } from '../support/until.mjs'

/** Alice and Bob, live on a document of their own. */
const openPair = async (t, version, server) => {
  const name = uniqueName()
  const [alice, bob] = [1, 2].map(() => version.open(t, { server: server.url, name }))
  await until('both are synced', () => alice.synced && bob.synced, [alice, bob])
  alice.text.insert(0, 'online')
  alice.awareness.setLocalState({ name: 'Alice' })
  await until('Bob has the text and sees Alice', () =>
    bob.text.toString() === 'online' && bob.others()[0]?.name === 'Alice', [bob])
  return { version, name, alice, bob }
}

const editOffline = async ({ alice, bob }) => {
  await until('both have noticed', () => [alice, bob].every((client) => client.transport.closes.length > 0), [alice, bob])
  alice.doc.getMap('offline').set('Alice', 1)
  bob.doc.getMap('offline').set('Bob', 2)
  alice.text.insert(0, 'offline, ')
}

const checkBack = async (t, server, { version, name, alice, bob }) => {
  const complete = (client) => client.doc.getMap('offline').size === 2 && client.text.toString() === 'offline, online'
  await until('both have everything', () => complete(alice) && complete(bob), [alice, bob])
  if (version.family === 'hocuspocus') {
    // Version 2 counts below 0, having sent its offline edits both from its queue and in its step 2.
    await until('nothing is unsynced', () =>
      [alice, bob].every((client) => client.provider.unsyncedChanges <= 0), [alice, bob])
  }
  const carol = version.open(t, { server: server.url, name })
  await until('so has who comes later', () => complete(carol), [carol])
  // The awareness protocol knows a state by its clock: one that went is taken again only when it has changed.
  alice.awareness.setLocalStateField('back', true)
  await until('Bob sees Alice again', () => bob.others().some((state) => state.back), [bob])
  alice.text.insert(0, 'live again, ')
  await until('they are live', () => bob.text.toString().startsWith('live again'), [bob])
  assert.equal(bob.text.toString(), 'live again, offline, online')
}

const ends = {
  'is killed': (server) => server.kill(),
  'shuts down': (server) => server.stop()
}

for (const [how, end] of Object.entries(ends)) {
  test(`edits made while the server ${how} and is away arrive after its return`, async (t) => {
    const server = await ownServer(t)
    const pairs = await Promise.all(versions.map((version) => openPair(t, version, server)))
    await end(server)
    await Promise.all(pairs.map(editOffline))
    await server.start()
    for (const pair of pairs) {
      await t.test(pair.version.label, (t) => checkBack(t, server, pair))
    }
  })
}
