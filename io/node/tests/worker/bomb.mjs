// For `unbounded.rs`: a program on an engine that gives it all it asks for, with a folder of the host as its /tmp.
import { writeSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { WASI } from 'node:wasi';
import { Worker } from 'node:worker_threads';

// Should whoever started us be killed: a thread of its own, for the guest keeps this one. It must not touch our output, which
// would then no longer wait for its reader.
new Worker("setTimeout(() => process.kill(process.pid, 'SIGKILL'), 30_000)", { eval: true, stdout: true, stderr: true });

const [file, folder, ...args] = process.argv.slice(2);
const wasi = new WASI({ version: 'preview1', args: ['bomb', ...args], preopens: { '/tmp': folder }, returnOnExit: true });
const bytes = await readFile(file);
writeSync(1, 'go\n');
const module = await WebAssembly.compile(bytes);
const instance = await WebAssembly.instantiate(module, wasi.getImportObject());
// WASI's own start wants a memory, which not every bomb has.
process.exit(instance.exports.memory ? wasi.start(instance) : instance.exports._start());
