// Writes assets.json: asset hashes and extensions by Node and the BLAKE3 that wrangler
// uses, which share no code with ours. Run: NODE_PATH=<node_modules with blake3-wasm> node assets.cjs > assets.json
const path = require("node:path");
const blake3 = require("blake3-wasm");

const rows = [
  ["/index.html", "<!doctype html><title>x</title><h1>hello</h1>\n\n"],
  ["/empty.txt", ""], ["/none", "no extension"], ["/.hidden", "dotfile"], ["/.well-known/x.json", "{}"],
  ["/A.PNG", "\x89PNG"], ["/archive.tar.gz", "gz"], ["/ends.", "dot at the end"], ["/..x", "two dots"],
  ["/...", "dots"], ["/a..", "a"], ["/dir.d/file", "dot in a folder"], ["/sp ace/ünïcode.txt", "ünï"],
  ["/long.bin", "0123456789abcdef".repeat(5000)],
].map(([p, text]) => {
  const content = Buffer.from(text, "utf8");
  const ext = path.extname(p).substring(1);
  return {
    path: p, content: content.length > 100 ? undefined : content.toString("base64"),
    repeat: content.length > 100 ? { text: text.slice(0, 16), times: text.length / 16 } : undefined,
    ext, hash: blake3.hash(content.toString("base64") + ext).toString("hex").slice(0, 32),
  };
});
console.log(JSON.stringify(rows, null, 1));
