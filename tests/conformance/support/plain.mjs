import * as decoding from 'lib0/decoding'
import * as encoding from 'lib0/encoding'

import { observedSocket } from './socket.mjs'

const SYNC = 0
const STEP_1 = 0
const STEP_2 = 1
const UPDATE = 2

/**
 * A y-websocket client without a provider, for versions of Yjs that the providers do not load: their copy of Yjs would edit a
 * document that belongs to another.
 *
 * @param {import('node:test').TestContext} t
 * @param {typeof import('yjs')} Y the version to use
 */
export const openPlain = (t, Y, { server, name, doc = new Y.Doc() }) => {
  const transport = observedSocket()
  const socket = new transport.Socket(`${server.replace(/^http/, 'ws')}/ws/${encodeURIComponent(name)}`)
  socket.binaryType = 'arraybuffer'
  const send = (subtype, payload) => socket.send(encoding.encode((encoder) => {
    encoding.writeVarUint(encoder, SYNC)
    encoding.writeVarUint(encoder, subtype)
    encoding.writeVarUint8Array(encoder, payload)
  }))
  const client = { doc, synced: false, watch: transport.watch }
  const listen = (update, origin) => { if (origin !== client) send(UPDATE, update) }
  socket.on('open', () => {
    send(STEP_1, Y.encodeStateVector(doc))
    doc.on('update', listen)
  })
  socket.on('message', (data) => {
    const decoder = decoding.createDecoder(new Uint8Array(data))
    if (decoding.readVarUint(decoder) !== SYNC) return
    const subtype = decoding.readVarUint(decoder)
    const payload = decoding.readVarUint8Array(decoder)
    if (subtype === STEP_1) send(STEP_2, Y.encodeStateAsUpdate(doc, payload))
    else Y.applyUpdate(doc, payload, client)
    if (subtype === STEP_2) client.synced = true
  })
  t.after(() => {
    doc.off('update', listen)
    socket.close()
    doc.destroy()
  })
  return client
}
