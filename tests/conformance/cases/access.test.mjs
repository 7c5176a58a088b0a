// Who may do what on a server that wants tokens: for every version of both protocols.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import * as decoding from 'lib0/decoding'

import { versions } from '../support/clients.mjs'
import { mint, revoke, secureServer, uniqueName } from '../support/server.mjs'
import { until } from '../support/until.mjs'

const server = secureServer()

/** An editor's client of document `name`, already synced. */
const editor = async (t, version, name) => {
  const client = version.open(t, { server, name, token: mint({ [name]: 'editor' }) })
  await until('the editor is synced', () => client.synced, [client])
  return client
}

/** The reason of the y-websocket permission denied message (y-protocols/auth: 2, 0, reason), if one has come. */
const yWebsocketDenial = ({ transport }) => {
  const frame = transport.frames.find((candidate) => candidate[0] === 2)
  if (frame === undefined) return undefined
  const decoder = decoding.createDecoder(frame)
  assert.equal(decoding.readVarUint(decoder), 2)
  assert.equal(decoding.readVarUint(decoder), 0)
  return decoding.readVarString(decoder)
}

const denial = (version, client) => version.family === 'hocuspocus' ? client.failures[0] : yWebsocketDenial(client)

/** y-websocket puts the name into the URL as it is, where a slash would begin another segment. */
const encodeName = (version, name) => version.family === 'y-websocket' ? encodeURIComponent(name) : name

/** Whether the server has ended this client's access in its protocol's own way. */
const ended = (version, client) => version.family === 'hocuspocus'
  ? client.failures.length > 0 || client.transport.closes.includes(4401)
  : client.transport.closes.includes(4401)

for (const version of versions) {
  describe(version.label, () => {
    test('a viewer sees what others write, and none of its own edits gets through', async (t) => {
      const name = uniqueName()
      const alice = await editor(t, version, name)
      alice.text.insert(0, 'first')
      const viewer = version.open(t, { server, name, token: mint({ [name]: 'viewer' }) })
      await until('the viewer has the text', () => viewer.text.toString() === 'first', [viewer])
      if (version.family === 'hocuspocus') assert.equal(viewer.provider.authorizedScope, 'readonly')

      const counts = []
      viewer.provider.on('unsyncedChanges', () => counts.push(viewer.provider.unsyncedChanges))
      viewer.doc.getMap('forbidden').set('by', 'the viewer')
      // Frames of a socket are taken in order: whoever sees this presence asks after the edit was dealt with.
      viewer.awareness.setLocalState({ name: 'the viewer', edited: true })
      await until('Alice sees that the viewer is past its edit', () =>
        alice.others().some((state) => state.edited), [alice])

      alice.text.insert(5, ', second')
      await until('the viewer gets more', () => viewer.text.toString() === 'first, second', [viewer])
      const witness = await editor(t, version, name)
      assert.equal(witness.text.toString(), 'first, second')
      for (const client of [alice, witness]) assert.equal(client.doc.getMap('forbidden').size, 0)
      if (version.family === 'hocuspocus') {
        assert.ok(counts.length > 0)
        assert.ok(counts.every((count) => count > 0), `unsyncedChanges went through ${counts}`)
      }
    })

    test('a pattern gives access to the documents that it covers', async (t) => {
      const stem = uniqueName('team')
      const token = mint({ [`${stem}/*`]: 'editor' })
      const name = `${stem}/minutes`
      const clients = [1, 2].map(() => version.open(t, { server, name: encodeName(version, name), token }))
      await until('both are synced', () => clients.every((client) => client.synced), clients)
      clients[0].text.insert(0, 'covered')
      await until('the other has it', () => clients[1].text.toString() === 'covered', clients)
    })

    const refused = {
      'for another document': () => mint({ [uniqueName('another')]: 'editor' }),
      'that has expired': (name) => mint({ [name]: 'editor' }, { expiresIn: -3600 }),
      'that is forged': (name) => mint({ [name]: 'editor' }, { secret: 'somebody else guessed this secret, and was wrong' }),
      'that is none': () => 'not.a.token'
    }
    for (const [kind, token] of Object.entries(refused)) {
      test(`a token ${kind} is refused, and nothing is shown`, async (t) => {
        const name = uniqueName()
        const alice = await editor(t, version, name)
        alice.text.insert(0, 'secret')
        alice.awareness.setLocalState({ name: 'Alice' })
        const stranger = version.open(t, { server, name, token: token(name) })
        stranger.text.insert(0, 'intruder')
        const reason = await until('the refusal', () => denial(version, stranger), [stranger])
        assert.equal(typeof reason, 'string')
        if (version.family === 'y-websocket') {
          await until('the close', () => stranger.transport.closes.some((code) => code >= 4400 && code < 4500), [stranger])
        }
        assert.equal(stranger.text.toString(), 'intruder')
        assert.deepEqual(stranger.others(), [])
        const witness = await editor(t, version, name)
        await until('the witness has the text', () => witness.text.length > 0, [witness])
        assert.equal(witness.text.toString(), 'secret')
      })
    }

    test('a token that expires ends the access of an open socket', async (t) => {
      const name = uniqueName()
      const token = mint({ [name]: 'editor' }, { expiresIn: 3 })
      const alice = version.open(t, { server, name, token })
      await until('Alice is synced', () => alice.synced, [alice])
      assert.ok(!ended(version, alice))
      await until('Alice is told that it is over', () => ended(version, alice), [alice], 15_000)
      alice.text.insert(0, 'too late')
      const witness = await editor(t, version, name)
      assert.equal(witness.text.toString(), '')
    })

    test('a token that is revoked ends the access of an open socket', async (t) => {
      const name = uniqueName()
      const token = mint({ [name]: 'editor' }, { more: { jti: name } })
      const alice = version.open(t, { server, name, token })
      await until('Alice is synced', () => alice.synced, [alice])
      await revoke(name)
      await until('Alice is told that it is over', () => ended(version, alice), [alice])
      alice.text.insert(0, 'too late')
      const witness = await editor(t, version, name)
      assert.equal(witness.text.toString(), '')
    })
  })
}
