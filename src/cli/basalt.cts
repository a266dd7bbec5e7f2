#!/usr/bin/env node
/**
 * Starts the program. CommonJS, because Node starts its thread pool while it loads ES modules, and the pool's size is read then.
 * With the default of four threads a few slow syncs hold up every log write and read behind them.
 */
process.env['UV_THREADPOOL_SIZE'] ??= '16';
void import('./main.ts');
