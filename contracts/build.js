// Compiles src/*.sol into artifacts/*.json. `--check` writes nothing and fails when an artifact differs.
"use strict";
const fs = require("fs");
const path = require("path");
const solc = require("solc");

const at = (...parts) => path.join(__dirname, ...parts);
const read = (file) => fs.readFileSync(file, "utf8");

const names = fs.readdirSync(at("src")).filter((f) => f.endsWith(".sol")).sort();
const input = {
  language: "Solidity",
  sources: Object.fromEntries(names.map((f) => [`src/${f}`, { content: read(at("src", f)) }])),
  settings: {
    evmVersion: "cancun",
    viaIR: true,
    optimizer: { enabled: true, runs: 1_000_000 },
    // The bytecode depends on the code alone: not on comments, file names or this machine.
    metadata: { bytecodeHash: "none", appendCBOR: false },
    outputSelection: Object.fromEntries(names.map((f) => [`src/${f}`, {
      "*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object", "storageLayout"],
    }])),
  },
};
const imports = (file) => ({ contents: read(at("node_modules", file)) });
const output = JSON.parse(solc.compile(JSON.stringify(input), { import: imports }));
// Warnings about other people's sources are theirs to mend.
const ours = (e) => e.sourceLocation?.file.startsWith("src/");
const problems = (output.errors ?? []).filter((e) => e.severity === "error" || ours(e));
problems.forEach((e) => console.error(e.formattedMessage));
if (problems.length) process.exit(1);

const check = process.argv.includes("--check");
let stale = 0;
for (const file of names) {
  const name = path.basename(file, ".sol");
  const built = output.contracts[`src/${file}`][name];
  const text = JSON.stringify({
    abi: built.abi,
    bytecode: `0x${built.evm.bytecode.object}`,
    deployedBytecode: `0x${built.evm.deployedBytecode.object}`,
    // AST ids change with unrelated files; what matters is which slot holds what.
    storageLayout: built.storageLayout.storage.map(({ label, slot, offset, type }) => ({
      label, slot, offset, type: type.replace(/\)\d+/g, ")"),
    })),
  }, null, 2) + "\n";
  const target = at("artifacts", `${name}.json`);
  const same = fs.existsSync(target) && read(target) === text;
  if (check && !same) stale += 1;
  if (check && !same) console.error(`artifacts/${name}.json differs\nhint: npm run build, and commit it`);
  if (!check) fs.mkdirSync(at("artifacts"), { recursive: true });
  if (!check && !same) fs.writeFileSync(target, text);
  console.log(`${name}: ${built.evm.deployedBytecode.object.length / 2} bytes deployed`);
}
process.exit(stale ? 1 : 0);
