// The stock clients under one interface, so that a case is written once and runs for every version.
import * as hocuspocus2 from 'hocuspocus-provider-2'
import * as hocuspocus3 from 'hocuspocus-provider-3'
import * as hocuspocus4 from 'hocuspocus-provider-4'
import * as ywebsocket1 from 'y-websocket-1'
import * as ywebsocket2 from 'y-websocket-2'
import * as ywebsocket3 from 'y-websocket-3'
import * as Y from 'yjs'

import { observedSocket } from './socket.mjs'

const PROVIDER_EVENTS = [
  'status', 'sync', 'synced', 'connection-close', 'closed', 'unsyncedChanges', 'authenticated', 'authenticationFailed', 'stateless',
  'close'
]

/**
 * @typedef {object} Options
 * @property {string} server http address of the server
 * @property {string} name of the document
 * @property {Y.Doc} [doc]
 * @property {string | (() => string)} [token] a function only for hocuspocus
 */

/** One replica with its provider; `until` takes it as a source. */
class Client {
  constructor (t, doc, provider, transport, leave) {
    this.doc = doc
    this.provider = provider
    this.awareness = provider.awareness
    this.transport = transport
    this.failures = /** @type {string[]} */ ([])
    this.left = false
    this.leave = () => {
      if (this.left) return
      this.left = true
      leave()
      doc.destroy()
    }
    provider.on('authenticationFailed', ({ reason }) => this.failures.push(reason))
    t.after(this.leave)
  }

  get text () { return this.doc.getText('text') }
  get synced () { return this.provider.synced }

  watch (notify) {
    // A provider emits before it has finished changing its own state.
    const later = () => queueMicrotask(notify)
    PROVIDER_EVENTS.forEach((event) => this.provider.on(event, later))
    this.doc.on('update', later)
    this.awareness.on('change', later)
    const unwatch = this.transport.watch(notify)
    return () => {
      unwatch()
      PROVIDER_EVENTS.forEach((event) => this.provider.off(event, later))
      this.doc.off('update', later)
      this.awareness.off('change', later)
    }
  }

  /** The awareness states of everybody else. */
  others () {
    return [...this.awareness.getStates()].filter(([id]) => id !== this.doc.clientID).map(([, state]) => state)
  }
}

const webSocketUrl = (server, path) => server.replace(/^http/, 'ws') + path

const yWebsocket = (version, { WebsocketProvider }) => ({
  label: `y-websocket ${version}`,
  family: 'y-websocket',
  version,
  /** @param {Options} options */
  open (t, { server, name, doc = new Y.Doc(), token }) {
    const transport = observedSocket()
    const provider = new WebsocketProvider(webSocketUrl(server, '/ws'), name, doc, {
      WebSocketPolyfill: transport.Socket,
      // Node has BroadcastChannel too: the replicas of one test would meet there, without a server.
      disableBc: true,
      maxBackoffTime: 200,
      params: token === undefined ? {} : { token }
    })
    const client = new Client(t, doc, provider, transport, () => provider.destroy())
    client.vanish = () => {
      provider.shouldConnect = false
      transport.cut()
    }
    return client
  }
})

const hocuspocus = (version, { HocuspocusProvider, HocuspocusProviderWebsocket }) => {
  const major = Number.parseInt(version)
  return {
    label: `@hocuspocus/provider ${version}`,
    family: 'hocuspocus',
    version,
    sessionAwareness: major >= 4,
    flushDelay: major >= 4,
    asksForTokens: major >= 3,
    /** A socket that several documents share. */
    socket (t, server) {
      const transport = observedSocket()
      const socket = new HocuspocusProviderWebsocket({
        url: webSocketUrl(server, '/collab'),
        WebSocketPolyfill: transport.Socket,
        delay: 100,
        minDelay: 100,
        maxDelay: 200
      })
      const destroy = () => {
        socket.destroy()
        // 3.4.4 connects again, and for ever, when it is destroyed between a close and the next attempt.
        socket.connect = async () => {}
      }
      t.after(destroy)
      return { socket, transport, destroy }
    },
    /** @param {Omit<Options, 'server'>} options @param shared what `socket` gave */
    attach (t, shared, { name, doc = new Y.Doc(), token, ...options }, destroy = () => {}) {
      const provider = new HocuspocusProvider({
        websocketProvider: shared.socket,
        name,
        document: doc,
        token,
        // Version 2 would meet the other replicas of the test over BroadcastChannel, without a server.
        broadcast: false,
        ...options
      })
      // From version 3 on, a provider on a socket that it did not make is attached by hand.
      provider.attach?.()
      return new Client(t, doc, provider, shared.transport, () => {
        provider.destroy()
        destroy()
      })
    },
    /** @param {Options} options */
    open (t, { server, ...options }) {
      const shared = this.socket(t, server)
      const client = this.attach(t, shared, options, shared.destroy)
      client.vanish = () => {
        shared.socket.shouldConnect = false
        shared.transport.cut()
      }
      return client
    }
  }
}

export const yWebsocketVersions = [
  yWebsocket('1.5.4', ywebsocket1),
  yWebsocket('2.1.0', ywebsocket2),
  yWebsocket('3.1.0', ywebsocket3)
]

export const hocuspocusVersions = [
  hocuspocus('2.15.3', hocuspocus2),
  hocuspocus('3.4.4', hocuspocus3),
  hocuspocus('4.8.0', hocuspocus4)
]

export const versions = [...yWebsocketVersions, ...hocuspocusVersions]
