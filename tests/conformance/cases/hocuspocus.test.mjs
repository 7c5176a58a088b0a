// What the Hocuspocus protocol has and y-websocket has not: many documents on a socket, counted changes, tokens on request.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import { hocuspocusVersions } from '../support/clients.mjs'
import { mint, openServer, secureServer, uniqueName } from '../support/server.mjs'
import { until } from '../support/until.mjs'

const durable = (client) => client.provider.unsyncedChanges === 0

for (const version of hocuspocusVersions) {
  describe(version.label, () => {
    test('unsyncedChanges comes down to exactly 0, and never below', async (t) => {
      const alice = version.open(t, { server: openServer(), name: uniqueName() })
      const counts = []
      alice.provider.on('unsyncedChanges', () => counts.push(alice.provider.unsyncedChanges))
      await until('the handshake is acknowledged', () => alice.synced && durable(alice), [alice])
      for (let edit = 0; edit < 50; edit += 1) alice.text.insert(0, 'x')
      assert.equal(alice.provider.unsyncedChanges, 50)
      await until('all edits are acknowledged', () => durable(alice), [alice])
      // An acknowledgement too many would have to come before that of a later edit.
      alice.text.insert(0, 'y')
      await until('the last edit is acknowledged', () => durable(alice), [alice])
      assert.ok(counts.every((count) => count >= 0), `went through ${counts}`)
      assert.deepEqual(counts.slice(-2), [1, 0])
    })

    test('documents on one socket stay apart', async (t) => {
      const shared = version.socket(t, openServer())
      const names = Array.from({ length: 20 }, (_, index) => uniqueName(`document-${index}`))
      const writers = names.map((name) => version.attach(t, shared, { name }))
      await until('all are synced', () => writers.every((client) => client.synced), writers)
      writers.forEach((client, index) => {
        client.text.insert(0, names[index])
        client.awareness.setLocalState({ name: names[index] })
      })
      await until('all edits are acknowledged', () => writers.every(durable), writers)
      const elsewhere = version.socket(t, openServer())
      const readers = names.map((name) => version.attach(t, elsewhere, { name }))
      await until('each document has its own text and presence', () => readers.every((client, index) =>
        client.text.toString() === names[index] && client.others()[0]?.name === names[index]), readers)
      assert.equal(shared.transport.closes.length, 0)
    })

    test('a document that leaves a shared socket takes its presence with it, and leaves the others working', async (t) => {
      const shared = version.socket(t, openServer())
      const [leaving, staying] = [uniqueName('leaving'), uniqueName('staying')]
      const clients = [leaving, staying].map((name) => version.attach(t, shared, { name }))
      const witnesses = [leaving, staying].map((name) => version.open(t, { server: openServer(), name }))
      clients.forEach((client) => client.awareness.setLocalState({ name: 'Alice' }))
      await until('both witnesses see Alice', () =>
        witnesses.every((client) => client.others()[0]?.name === 'Alice'), witnesses)
      clients[0].leave()
      await until('Alice has left one', () => witnesses[0].others().length === 0, witnesses)
      clients[1].text.insert(0, 'still here')
      await until('the other works', () => witnesses[1].text.toString() === 'still here', witnesses)
      assert.equal(witnesses[1].others()[0].name, 'Alice')
    })

    test('a document that is denied does not harm the others on its socket', async (t) => {
      const [mine, theirs, alsoMine] = [uniqueName('mine'), uniqueName('theirs'), uniqueName('also-mine')]
      const token = mint({ [mine]: 'editor', [alsoMine]: 'viewer' })
      const shared = version.socket(t, secureServer())
      const clients = [mine, theirs, alsoMine].map((name) => version.attach(t, shared, { name, token }))
      const [first, denied, second] = clients
      await until('one is denied', () => denied.failures.length > 0, clients)
      await until('the others are synced', () => first.synced && second.synced, clients)
      first.text.insert(0, 'goes on')
      await until('the edit is acknowledged', () => durable(first), clients)
      assert.equal(first.provider.authorizedScope, 'read-write')
      assert.equal(second.provider.authorizedScope, 'readonly')
      assert.deepEqual([first.failures, second.failures], [[], []])
      assert.equal(shared.transport.closes.length, 0)
    })

    test('stateless messages do no harm', async (t) => {
      const name = uniqueName()
      const [alice, bob] = [1, 2].map(() => version.open(t, { server: openServer(), name }))
      await until('both are synced', () => alice.synced && bob.synced, [alice, bob])
      alice.provider.sendStateless('anybody there? 🦉')
      alice.text.insert(0, 'after it')
      await until('Bob has what came after it', () => bob.text.toString() === 'after it', [bob])
      await until('and it is acknowledged', () => durable(alice), [alice])
      assert.deepEqual([...alice.transport.closes, ...bob.transport.closes], [])
    })

    if (version.asksForTokens) test('a token is renewed on an open socket, and the new one counts', async (t) => {
      const name = uniqueName()
      let given = 0
      const token = () => {
        given += 1
        // The server asks 30 s before the end: of this first token, at once.
        return given === 1 ? mint({ [name]: 'viewer' }, { expiresIn: 32 }) : mint({ [name]: 'editor' })
      }
      const alice = version.open(t, { server: secureServer(), name, token })
      await until('Alice may read', () => alice.provider.authorizedScope === 'readonly', [alice])
      await until('Alice may write', () => alice.provider.authorizedScope === 'read-write', [alice])
      assert.equal(given, 2)
      const bob = version.open(t, { server: secureServer(), name, token: mint({ [name]: 'editor' }) })
      await until('both are synced', () => alice.synced && bob.synced, [alice, bob])
      alice.text.insert(0, 'renewed')
      await until('Alice writes', () => durable(alice) && bob.text.toString() === 'renewed', [alice, bob])
      assert.deepEqual([alice.failures, alice.transport.closes], [[], []])
    })

    if (version.sessionAwareness) test('one document twice on a socket, with sessionAwareness', async (t) => {
      const shared = version.socket(t, openServer())
      const name = uniqueName('twice 漢字')
      const [alice, bob] = [1, 2].map(() => version.attach(t, shared, { name, sessionAwareness: true }))
      await until('both are synced', () => alice.synced && bob.synced, [alice, bob])
      alice.text.insert(0, 'from one session')
      alice.awareness.setLocalState({ name: 'Alice' })
      bob.awareness.setLocalState({ name: 'Bob' })
      await until('the other session has it', () => bob.text.toString() === 'from one session', [bob])
      await until('they see each other', () =>
        alice.others()[0]?.name === 'Bob' && bob.others()[0]?.name === 'Alice', [alice, bob])
      await until('both are acknowledged', () => durable(alice) && durable(bob), [alice, bob])
      const plain = version.open(t, { server: openServer(), name })
      await until('it is the document of that name', () => plain.text.toString() === 'from one session', [plain])
      alice.leave()
      await until('Alice is gone', () => !bob.awareness.getStates().has(alice.doc.clientID), [bob])
      bob.text.insert(0, 'still ')
      await until('Bob goes on', () => plain.text.toString() === 'still from one session', [plain])
    })

    if (version.flushDelay) test('merged batches of flushDelay are acknowledged', async (t) => {
      const name = uniqueName()
      const shared = version.socket(t, openServer())
      const alice = version.attach(t, shared, { name, flushDelay: 20 })
      const bob = version.open(t, { server: openServer(), name })
      await until('both are acknowledged', () => durable(alice) && durable(bob), [alice, bob])
      for (let edit = 0; edit < 30; edit += 1) alice.text.insert(edit, String(edit % 10))
      assert.equal(alice.provider.unsyncedChanges, 1)
      await until('the batch is acknowledged', () => durable(alice), [alice])
      await until('Bob has it', () => bob.text.toString() === '0123456789'.repeat(3), [bob])
    })
  })
}
