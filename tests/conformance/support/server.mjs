// The servers under test. Their addresses come from the environment, see test_stock_clients.py.
import { createHmac, randomUUID } from 'node:crypto'

const required = (name) => {
  const value = process.env[name]
  if (!value) throw new Error(`${name} is not set; run the suite with pytest tests/conformance`)
  return value
}

/** Anyone may read and write; nobody kills it. */
export const openServer = () => required('EBBTIDE_URL')

/** Wants HS256 tokens signed with EBBTIDE_TOKEN_SECRET. */
export const secureServer = () => required('EBBTIDE_SECURE_URL')

/** A document name that no other test uses. */
export const uniqueName = (stem = 'doc') => `${stem}-${randomUUID()}`

const base64url = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

/**
 * @param {Record<string, 'editor' | 'viewer'>} documents names or patterns, and the role
 * @param {{ expiresIn?: number, secret?: string, more?: object }} [options] `expiresIn` in seconds, negative for a token of the
 *   past; `more` are further claims
 */
export const mint = (documents, { expiresIn = 600, secret = required('EBBTIDE_TOKEN_SECRET'), more = {} } = {}) => {
  const claims = { sub: 'conformance', exp: Math.floor(Date.now() / 1000) + expiresIn, documents, ...more }
  const signed = `${base64url({ alg: 'HS256', typ: 'JWT' })}.${base64url(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** Revoke the token with this `jti` on the server that wants tokens. */
export const revoke = async (jti) => {
  const response = await fetch(`${secureServer()}/api/v1/revocations`, {
    method: 'POST',
    headers: { authorization: `Bearer ${mint({}, { more: { admin: true } })}`, 'content-type': 'application/json' },
    body: JSON.stringify({ token: jti })
  })
  if (!response.ok) throw new Error(`the revocation was answered with ${response.status}: ${await response.text()}`)
}

const control = async (method, path) => {
  const response = await fetch(`${required('EBBTIDE_CONTROL_URL')}${path}`, { method })
  const body = await response.text()
  if (!response.ok) throw new Error(`${method} ${path}: ${response.status} ${body}`)
  return body ? JSON.parse(body) : null
}

/**
 * An open server of the test's own, which it may kill. It keeps its port and its data from one start to the next.
 *
 * @param {import('node:test').TestContext} t
 */
export const ownServer = async (t) => {
  let { id, url, pid } = await control('POST', '/servers')
  t.after(() => control('DELETE', `/servers/${id}`))
  return {
    url,
    /** SIGKILL, sent before this call returns. */
    kill: () => process.kill(pid, 'SIGKILL'),
    /** SIGTERM, and its exit awaited. */
    stop: () => control('POST', `/servers/${id}/stop`),
    /** Resolves when the new process accepts connections; the old one is gone before. */
    start: async () => { ({ pid } = await control('POST', `/servers/${id}/start`)) }
  }
}
