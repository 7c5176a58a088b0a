import { WebSocket } from 'ws'

/**
 * A WebSocket class for a provider's `WebSocketPolyfill`, which shows what travels underneath the provider.
 *
 * @returns `Socket`, the class; `frames`, what arrived; `closes`, the close codes; `watch`, a source for `until`; and `cut`, which
 *   drops the connection without a closing handshake
 */
export const observedSocket = () => {
  const observed = {
    frames: /** @type {Uint8Array[]} */ ([]),
    closes: /** @type {number[]} */ ([]),
    watch (notify) {
      watchers.add(notify)
      return () => watchers.delete(notify)
    },
    cut: () => open.forEach((socket) => socket.terminate()),
    Socket: class extends WebSocket {
      constructor (...args) {
        super(...args)
        open.add(this)
        this.on('message', (data) => {
          observed.frames.push(new Uint8Array(data).slice())
          tell()
        })
        this.on('close', (code) => {
          open.delete(this)
          observed.closes.push(code)
          tell()
        })
        // A provider that leaves while it connects has no listener of its own any more, and `ws` throws unheard errors.
        this.on('error', () => {})
      }
    }
  }
  const open = new Set()
  const watchers = new Set()
  // The provider's own listeners run after these: who waits looks once they have.
  const tell = () => setImmediate(() => [...watchers].forEach((notify) => notify()))
  return observed
}
