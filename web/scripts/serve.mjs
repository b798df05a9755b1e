// Serves folders as a static site: by itself the page. WebGPU wants a secure context, which localhost is.
import { createReadStream, existsSync, statSync } from 'node:fs';
import { createServer } from 'node:http';
import { extname, join, normalize, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildPage } from './page.mjs';

const TYPES = {
    '.html': 'text/html; charset=utf-8', '.js': 'text/javascript', '.mjs': 'text/javascript', '.css': 'text/css', '.wasm': 'application/wasm',
};

/** A server of folders by the first part of the path; '' is for all others. Resolves to it when it listens. */
export function serve(folders, port = 0) {
    const server = createServer((request, response) => {
        const { pathname } = new URL(request.url, 'http://localhost');
        const [, first] = pathname.split('/');
        const [root, path] = first && folders[first] ? [folders[first], pathname.slice(first.length + 1)] : [folders[''], pathname];
        let file = join(root, normalize(decodeURIComponent(path)));
        if (existsSync(file) && statSync(file).isDirectory()) file = join(file, 'index.html');
        if (!file.startsWith(root + sep) || !existsSync(file)) return response.writeHead(404).end();
        response.writeHead(200, { 'content-type': TYPES[extname(file)] ?? 'application/octet-stream', 'cache-control': 'no-store' });
        createReadStream(file).pipe(response);
    });
    return new Promise((resolve) => server.listen(port, 'localhost', () => resolve(server)));
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
    const port = Number(process.env.PORT ?? 8080);
    const server = await serve({ '': await buildPage() }, port);
    console.log(`wgclip: http://localhost:${server.address().port}/`);
}
