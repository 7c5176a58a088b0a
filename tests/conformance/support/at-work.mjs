// Stock clients at work while servers come and go: one y-websocket 3 and one Hocuspocus provider 4 on a document, each writing
// marks `name:number` into its array. Run by tests/nodes; commands come on standard input, answers go to standard output, both as
// JSON lines.
//
//   node at-work.mjs URL DOCUMENT    says {"ready": true} once both are synced
//   {"stop": true}                   write no more; says {"written": [...]}
//   {"expect": 120}                  says {"marks": [[...], [...]], "closes": [...], "failures": [...], "unsynced": 0} once both have
//                                    so many marks and nothing waits for its acknowledgement
import { createInterface } from 'node:readline'

import { hocuspocusVersions, yWebsocketVersions } from './clients.mjs'
import { until } from './until.mjs'

const PACE = 50
const [server, name] = process.argv.slice(2)
const ends = []
const context = { after: (end) => ends.push(end) }
const clients = [yWebsocketVersions.at(-1), hocuspocusVersions.at(-1)].map((version) => version.open(context, { server, name }))
const written = []
const say = (answer) => console.log(JSON.stringify(answer))

await until('both are synced', () => clients.every((client) => client.synced), clients)
const writers = clients.map((client, number) => {
  let count = 0
  return setInterval(() => {
    const mark = `node-${number}:${count++}`
    written.push(mark)
    client.doc.getArray('marks').push([mark])
  }, PACE)
})
say({ ready: true })

for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line)
  if (command.stop) {
    writers.forEach(clearInterval)
    say({ written })
  } else {
    const marks = () => clients.map((client) => client.doc.getArray('marks').toArray())
    const unsynced = () => clients[1].provider.unsyncedChanges
    await until('both have everything, durable', () =>
      marks().every((each) => each.length === command.expect) && unsynced() === 0, clients, 30_000)
    say({
      marks: marks(),
      closes: clients.flatMap((client) => client.transport.closes),
      failures: clients.flatMap((client) => client.failures),
      unsynced: unsynced()
    })
    break
  }
}
ends.reverse().forEach((end) => end())
process.exit()
