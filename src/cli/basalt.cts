#!/usr/bin/env node
/**
 * Starts the program. CommonJS, because Node starts its thread pool while it loads ES modules, and the pool's size is read then.
 * With the default of four threads a few slow syncs hold up every log write and read behind them.
 */
process.env['UV_THREADPOOL_SIZE'] ??= '16';
// The S3 client would tell every user of Node 20 that its later versions want another one: the version is ours to choose.
process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] ??= 'true';
void import('./main.ts');
