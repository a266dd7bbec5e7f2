/**
 * Reads vitest's JSON report (first argument) and prints which tests were skipped and, alone on the last line,
 * `N passed, N failed`. Exits 1 if any failed, or if there is no report.
 */
import { readFileSync } from 'node:fs';

const path = process.argv[2] ?? 'build/test-report.json';

function readReport() {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch (error) {
    console.log(`no test report at ${path}: ${error.message}`);
    return null;
  }
}

const report = readReport();
let passed = 0;
let failed = 0;
if (report === null) {
  failed = 1; // the run ended before it had tested anything
} else {
  for (const file of report.testResults) {
    // A file that could not be loaded has no tests of its own, but it did fail.
    if (file.status === 'failed' && !file.assertionResults.some((result) => result.status === 'failed')) failed += 1;
    for (const result of file.assertionResults) {
      if (result.status === 'passed') passed += 1;
      else if (result.status === 'failed') failed += 1;
      else console.log(`skipped: ${result.fullName}`);
    }
  }
  if (!report.success && failed === 0) failed = 1;
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 ? 0 : 1;
