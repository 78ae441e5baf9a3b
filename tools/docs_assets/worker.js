// Browsers start no worker from a file:// page. This runs the search worker in a hidden frame instead, so that a folder on disk can be searched.
(function () {
  if (location.protocol !== "file:") return
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      const home = new URL(url, location.href)
      const frame = document.createElement("iframe")
      frame.hidden = true
      document.documentElement.appendChild(frame)   // not the body, which a change of page replaces
      const inner = frame.contentWindow, outer = this
      const load = u => new Promise(done => {
        const script = inner.document.createElement("script")
        script.src = new URL(u, home).href
        script.onload = script.onerror = () => done()
        inner.document.documentElement.appendChild(script)
      })
      inner.importScripts = (...urls) => urls.reduce((p, u) => p.then(() => load(u)), Promise.resolve())
      inner.postMessage = data => {                 // what the worker says
        const e = new MessageEvent("message", { data })
        outer.dispatchEvent(e)
        if (outer.onmessage) outer.onmessage(e)
      }
      this.frame = frame
      this.ready = load(home)
    }
    postMessage(data) {                             // what it is told
      this.ready.then(() => this.frame.contentWindow.dispatchEvent(new MessageEvent("message", { data })))
    }
    terminate() { this.frame.remove() }
  }
})()
