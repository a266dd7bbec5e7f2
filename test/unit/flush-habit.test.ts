import { expect, test } from 'vitest';
import { FlushHabit } from '../../src/wal/flush-habit.ts';

function writesAndFlushes(habit: FlushHabit, count: number): boolean {
  let expected = false;
  for (let i = 0; i < count; i += 1) {
    expected = habit.wrote();
    habit.flushed();
  }
  return expected;
}

test('a flush is expected after each write once eight came like that', () => {
  const habit = new FlushHabit();
  expect(writesAndFlushes(habit, 8)).toBe(false);
  expect(habit.wrote()).toBe(true);
});

test('a second write without a flush ends the habit', () => {
  const habit = new FlushHabit();
  writesAndFlushes(habit, 20);
  habit.wrote();
  expect(habit.wrote()).toBe(false);
  habit.flushed();
  expect(writesAndFlushes(habit, 8)).toBe(false);
});

test('flushes without a write between them teach nothing', () => {
  const habit = new FlushHabit();
  for (let i = 0; i < 20; i += 1) habit.flushed();
  expect(habit.wrote()).toBe(false);
});
