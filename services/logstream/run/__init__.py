"""The processes run apart: `logstream collector`, `logstream processor`, `logstream api`. See docs/processes.md.

`settings` what each is told, `sources` and `load` where that comes from, `show` how it is printed; `front`,
`readiness` and `tls` are what each answers with, `lifecycle` and `watchdog` how it ends; `collector`, `processor`
and `api` are the composition roots.
"""
