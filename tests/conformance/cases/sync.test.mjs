// What every version must be able to do on a server without accounts.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import * as Y from 'yjs'

import { versions } from '../support/clients.mjs'
import { openServer, uniqueName } from '../support/server.mjs'
import { until } from '../support/until.mjs'

const both = async (t, version, name = uniqueName()) => {
  const alice = version.open(t, { server: openServer(), name })
  const bob = version.open(t, { server: openServer(), name })
  await until('both are synced', () => alice.synced && bob.synced, [alice, bob])
  return { alice, bob, name }
}

for (const version of versions) {
  describe(version.label, () => {
    test('two live clients see each other write text, maps and arrays', async (t) => {
      const { alice, bob } = await both(t, version)
      alice.text.insert(0, 'from Alice')
      alice.doc.getMap('map').set('nested', new Y.Map([['author', 'Alice']]))
      await until('Bob has what Alice wrote', () =>
        bob.text.toString() === 'from Alice' && bob.doc.getMap('map').has('nested'), [bob])
      bob.text.insert(0, 'Bob and then ')
      bob.doc.getMap('map').get('nested').set('author', 'Bob')
      bob.doc.getArray('array').push([1, { two: [3] }])
      await until('Alice has what Bob wrote', () => alice.doc.getArray('array').length === 2, [alice])
      assert.deepEqual(alice.doc.toJSON(), {
        text: 'Bob and then from Alice', map: { nested: { author: 'Bob' } }, array: [1, { two: [3] }]
      })
    })

    test('what was written before anybody else came, and before the socket was open, is there for who joins', async (t) => {
      const name = uniqueName()
      const doc = new Y.Doc()
      doc.getText('text').insert(0, 'before the socket')
      const alice = version.open(t, { server: openServer(), name, doc })
      await until('Alice is synced', () => alice.synced, [alice])
      alice.text.insert(0, 'and after; ')
      const bob = version.open(t, { server: openServer(), name })
      await until('Bob has it all', () => bob.text.toString() === 'and after; before the socket', [bob])
    })

    test('a token is no obstacle where none is needed', async (t) => {
      const alice = version.open(t, { server: openServer(), name: uniqueName(), token: 'left over from another server' })
      await until('Alice is synced', () => alice.synced, [alice])
    })

    test('a deletion and formatting travel', async (t) => {
      const { alice, bob } = await both(t, version)
      alice.text.insert(0, 'plain bold gone')
      alice.text.delete(10, 5)
      alice.text.format(6, 4, { bold: true })
      const expected = [{ insert: 'plain ' }, { insert: 'bold', attributes: { bold: true } }]
      await until('Bob has the formatted text', () => bob.text.toDelta().length === 2, [bob])
      assert.deepEqual(bob.text.toDelta(), expected)
    })

    test('names and contents may be in any script', async (t) => {
      const name = uniqueName('Größe 漢字 עברית 🧑‍🚀 é')
      const content = 'Ünïcödé — 漢字かな — עִבְרִית — 👩‍👩‍👧‍👦🏳️‍🌈 — \u0000\uFFFD'
      const { alice, bob } = await both(t, version, name)
      alice.text.insert(0, content)
      alice.awareness.setLocalStateField('name', content)
      await until('Bob has it', () => bob.text.toString() === content, [bob])
      await until('Bob sees the name', () => bob.others().some((state) => state.name === content), [bob])
      const elsewhere = version.open(t, { server: openServer(), name: `${name}🧑` })
      await until('the neighbour is synced', () => elsewhere.synced, [elsewhere])
      assert.equal(elsewhere.text.toString(), '')
    })

    test('presence goes both ways, reaches who joins later, and goes with a client that leaves', async (t) => {
      const { alice, bob, name } = await both(t, version)
      alice.awareness.setLocalState({ name: 'Alice', cursor: 1 })
      bob.awareness.setLocalState({ name: 'Bob' })
      await until('they see each other', () =>
        alice.others()[0]?.name === 'Bob' && bob.others()[0]?.name === 'Alice', [alice, bob])
      alice.awareness.setLocalStateField('cursor', 2)
      await until('Bob sees the cursor move', () => bob.others()[0]?.cursor === 2, [bob])
      const carol = version.open(t, { server: openServer(), name })
      await until('Carol sees both', () =>
        ['Alice', 'Bob'].every((who) => carol.others().some((state) => state.name === who)), [carol])
      alice.leave()
      await until('Alice is gone for both', () =>
        [bob, carol].every((client) => !client.awareness.getStates().has(alice.doc.clientID)), [bob, carol])
    })

    test('presence goes with a connection that breaks', async (t) => {
      const { alice, bob } = await both(t, version)
      alice.awareness.setLocalState({ name: 'Alice' })
      await until('Bob sees Alice', () => bob.others()[0]?.name === 'Alice', [bob])
      alice.vanish()
      await until('Bob sees nobody', () => !bob.awareness.getStates().has(alice.doc.clientID), [bob])
    })

    test('200 rapid edits arrive in order', async (t) => {
      const { alice, bob } = await both(t, version)
      const arrived = []
      bob.doc.getArray('edits').observe(({ changes }) => {
        const [first, ...rest] = changes.delta
        const insert = first.retain === undefined ? first : rest[0]
        assert.equal(first.retain ?? 0, arrived.length)
        arrived.push(...insert.insert)
      })
      const edits = Array.from({ length: 200 }, (_, index) => index)
      edits.forEach((edit) => alice.doc.getArray('edits').push([edit]))
      await until('Bob has 200 edits', () => arrived.length === 200, [bob])
      assert.deepEqual(arrived, edits)
    })

    test('5 MB go up and come down', async (t) => {
      const name = uniqueName()
      const doc = new Y.Doc()
      doc.getText('text').insert(0, '0123456789abcdef'.repeat(5 * 65536))
      const alice = version.open(t, { server: openServer(), name, doc })
      await until('Alice is synced', () => alice.synced, [alice])
      const bob = version.open(t, { server: openServer(), name })
      await until('Bob has 5 MB', () => bob.text.length === 5 * 1048576, [bob], 20_000)
      bob.text.insert(5 * 1048576, '!')
      await until('Alice has one more', () => alice.text.length === 5 * 1048576 + 1, [alice])
      assert.equal(bob.text.toString(), alice.text.toString())
    })
  })
}

test('all versions of both protocols share a document and its presence', async (t) => {
  const name = uniqueName('mixed')
  const clients = versions.map((version) => version.open(t, { server: openServer(), name }))
  await until('all are synced', () => clients.every((client) => client.synced), clients)
  clients.forEach((client, index) => {
    client.doc.getMap('map').set(versions[index].label, index)
    client.text.insert(0, `${versions[index].label};`)
    client.awareness.setLocalState({ label: versions[index].label })
  })
  await until('all have what all wrote', () => clients.every((client) =>
    client.doc.getMap('map').size === clients.length &&
    versions.every(({ label }) => client.text.toString().includes(label))), clients)
  await until('all see all', () => clients.every((client) =>
    new Set(client.others().map((state) => state.label)).size === clients.length - 1), clients)
  assert.equal(new Set(clients.map((client) => client.text.toString())).size, 1)
})
