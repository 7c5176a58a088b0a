// Documents and clients of older Yjs versions merge with the present one's through the server.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'

import * as present from 'yjs'
import * as yjs13_4 from 'yjs-13.4'
import * as yjs13_5 from 'yjs-13.5'

import { openServer, uniqueName } from '../support/server.mjs'
import { openPlain } from '../support/plain.mjs'
import { until } from '../support/until.mjs'

const edit = (Y, doc, who) => {
  doc.transact(() => {
    doc.getText('text').insert(0, `${who} plain bold gone; `)
    doc.getText('text').format(who.length + 7, 4, { bold: true })
    doc.getText('text').delete(who.length + 12, 4)
    doc.getMap('map').set(who, new Y.Map([['tags', Y.Array.from(['a', { deep: [1, null, 'ü🦉'] }])]]))
    doc.getMap('map').set('contested', who)
    doc.getArray('array').push([who, 1.5, true, 'ü🦉', new Uint8Array([0, 255])])
  })
  doc.getArray('array').delete(0, 1)
  const paragraph = new Y.XmlElement('p')
  paragraph.setAttribute('author', who)
  paragraph.insert(0, [new Y.XmlText(who)])
  doc.getXmlFragment('xml').insert(0, [paragraph])
}

const content = (doc) => ({
  text: doc.getText('text').toDelta(),
  map: doc.getMap('map').toJSON(),
  array: doc.getArray('array').toJSON(),
  xml: doc.getXmlFragment('xml').toString()
})

const agree = (one, other) => {
  try {
    assert.deepEqual(content(one.doc), content(other.doc))
    return content(one.doc)
  } catch {
    return false
  }
}

for (const [label, past] of Object.entries({ 'yjs 13.4.14': yjs13_4, 'yjs 13.5.53': yjs13_5 })) {
  describe(label, () => {
    test('merges what both wrote offline, and then live edits both ways', async (t) => {
      const name = uniqueName()
      const [oldDoc, newDoc] = [new past.Doc(), new present.Doc()]
      edit(past, oldDoc, 'past')
      edit(present, newDoc, 'present')
      const older = openPlain(t, past, { server: openServer(), name, doc: oldDoc })
      const newer = openPlain(t, present, { server: openServer(), name, doc: newDoc })
      const both = [older, newer]
      const merged = (count) => () => both.every(({ doc }) => doc.getXmlFragment('xml').length === count) && agree(older, newer)
      const afterMerge = await until('both hold both', merged(2), both)
      assert.equal(Object.keys(afterMerge.map).length, 3)
      assert.equal(afterMerge.array.length, 8)
      assert.deepEqual(afterMerge.text.filter(({ attributes }) => attributes?.bold).map(({ insert }) => insert), ['bold', 'bold'])

      edit(past, older.doc, 'past again')
      edit(present, newer.doc, 'present again')
      const afterLive = await until('both hold the live edits', merged(4), both)
      assert.equal(Object.keys(afterLive.map).length, 5)

      const joiner = openPlain(t, past, { server: openServer(), name })
      await until('who joins with the old version holds the same', () => agree(joiner, newer), [joiner])
    })
  })
}
