// Counts the tokens of files with three published tokenizers (npm: gpt-tokenizer,
// @anthropic-ai/tokenizer), to check the estimate in tokens.go:
//   npm install gpt-tokenizer @anthropic-ai/tokenizer && node count_tokens.mjs *.json *.jsonl
import { readFileSync } from 'node:fs';
import { countTokens as o200k } from 'gpt-tokenizer/encoding/o200k_base';
import { countTokens as cl100k } from 'gpt-tokenizer/encoding/cl100k_base';
import { countTokens as claude2 } from '@anthropic-ai/tokenizer';

for (const file of process.argv.slice(2)) {
  const text = readFileSync(file, 'utf8');
  console.log(file, { bytes: Buffer.byteLength(text), o200k: o200k(text), cl100k: cl100k(text), claude2: claude2(text) });
}
