// Waiting for a state, never for a time: the condition is looked at again whenever one of the sources reports a change.

const DEADLINE = 10_000

/**
 * Resolves with the first truthy value of `condition`.
 *
 * @template T
 * @param {string} what is awaited, for the message when it does not come
 * @param {() => T} condition
 * @param {Array<{ watch: (notify: () => void) => () => void }>} sources tell of changes
 * @param {number} [deadline] in milliseconds
 * @returns {Promise<T>} rejected when the deadline passes first
 */
export const until = (what, condition, sources, deadline = DEADLINE) => new Promise((resolve, reject) => {
  const unwatch = []
  const timer = setTimeout(() => settle(() => reject(new Error(`not within ${deadline} ms: ${what}`))), deadline)
  let settled = false
  const settle = (outcome) => {
    settled = true
    clearTimeout(timer)
    unwatch.forEach((stop) => stop())
    outcome()
  }
  const check = () => {
    if (settled) return
    try {
      const value = condition()
      if (value) settle(() => resolve(value))
    } catch (error) {
      settle(() => reject(error))
    }
  }
  for (const source of sources) unwatch.push(source.watch(check))
  check()
})
