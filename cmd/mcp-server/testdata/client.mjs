// A client of the TypeScript SDK in one run: node client.mjs SDK TRANSPORT URL TOKEN.
// SDK is v1 or v2 (or v2-modern: 2026-07-28 and nothing else), TRANSPORT http or sse. It
// reads one call a line, {"tool":…,"args":…}, and prints one answer a line. The SDK
// checks results against the tools' output schemas itself, and throws.
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [sdk, transport, url, token, modules] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(`${modules}/@modelcontextprotocol/${path}`).href);

let Client, Streamable, SSE;
if (sdk === 'v1') {
  ({ Client } = await load('sdk/dist/esm/client/index.js'));
  ({ StreamableHTTPClientTransport: Streamable } = await load('sdk/dist/esm/client/streamableHttp.js'));
  ({ SSEClientTransport: SSE } = await load('sdk/dist/esm/client/sse.js'));
} else {
  ({ Client, StreamableHTTPClientTransport: Streamable, SSEClientTransport: SSE } = await load('client/dist/index.mjs'));
}

const headers = token ? { Authorization: `Bearer ${token}` } : {};
const Transport = transport === 'sse' ? SSE : Streamable;
const options = sdk === 'v2-modern' ? { versionNegotiation: { mode: { pin: '2026-07-28' } } } : {};
const client = new Client({ name: `typescript-${sdk}`, version: '1' }, options);
await client.connect(new Transport(new URL(url), { requestInit: { headers } }));

const print = (value) => process.stdout.write(JSON.stringify(value) + '\n');
const { tools } = await client.listTools();
print({ tools: tools.map((t) => t.name) });
for await (const line of createInterface({ input: process.stdin })) {
  const { tool, args } = JSON.parse(line);
  try {
    const result = await client.callTool({ name: tool, arguments: args });
    print({ isError: result.isError === true, text: result.content.map((c) => c.text ?? '').join(''), structured: result.structuredContent ?? null });
  } catch (error) {
    print({ thrown: String(error) });
  }
}
await client.close();
