/*
 * An SD card for nbdkit's cc plugin: writes share a bandwidth, a flush waits for the writes before it and then takes its time. nbdkit's own
 * filters cannot slow a flush. Reads come at once: they are not what is measured.
 *
 *   nbdkit cc bench/slow-card.c image=FILE size=BYTES rate=BYTES_PER_SECOND flush-us=MICROSECONDS fast=FILE
 *
 * While the file `fast` is there nothing takes time: to prepare what is measured.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>
#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static const char *image, *fast;
static int64_t size_bytes, rate_bytes, flush_us;
static int file = -1;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static int64_t busy_until_ns; /* when the card has taken all writes so far */

static int64_t now_ns(void)
{
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void sleep_until(int64_t ns)
{
  struct timespec t = { .tv_sec = ns / 1000000000LL, .tv_nsec = ns % 1000000000LL };
  while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {}
}

/* Takes the card for `ns` behind whoever has it, and waits until that is over. */
static void occupy(int64_t ns)
{
  if (access(fast, F_OK) == 0) return;
  pthread_mutex_lock(&lock);
  int64_t now = now_ns();
  busy_until_ns = (busy_until_ns > now ? busy_until_ns : now) + ns;
  int64_t end = busy_until_ns;
  pthread_mutex_unlock(&lock);
  sleep_until(end);
}

static int card_config(const char *key, const char *value)
{
  if (strcmp(key, "image") == 0) { image = value; return 0; }
  if (strcmp(key, "fast") == 0) { fast = value; return 0; }
  int64_t number = nbdkit_parse_size(value);
  if (number <= 0) return -1;
  if (strcmp(key, "size") == 0) size_bytes = number;
  else if (strcmp(key, "rate") == 0) rate_bytes = number;
  else if (strcmp(key, "flush-us") == 0) flush_us = number;
  else { nbdkit_error("no setting %s", key); return -1; }
  return 0;
}

static int card_config_complete(void)
{
  if (image && fast && size_bytes && rate_bytes && flush_us) return 0;
  nbdkit_error("image, fast, size, rate and flush-us are needed");
  return -1;
}

static int card_get_ready(void)
{
  file = open(image, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file >= 0 && ftruncate(file, size_bytes) == 0) return 0;
  nbdkit_error("%s: %m", image);
  return -1;
}

static void *card_open(int readonly) { return NBDKIT_HANDLE_NOT_NEEDED; }
static int64_t card_get_size(void *handle) { return size_bytes; }
static int card_can_multi_conn(void *handle) { return 1; }

static int card_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
  return pread(file, buffer, count, offset) == (ssize_t)count ? 0 : -1;
}

static int card_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
  if (pwrite(file, buffer, count, offset) != (ssize_t)count) return -1;
  occupy(count * 1000000000LL / rate_bytes);
  return 0;
}

static int card_flush(void *handle, uint32_t flags)
{
  occupy(flush_us * 1000);
  return 0;
}

static struct nbdkit_plugin plugin = {
  .name = "slowcard",
  .config = card_config,
  .config_complete = card_config_complete,
  .get_ready = card_get_ready,
  .open = card_open,
  .get_size = card_get_size,
  .can_multi_conn = card_can_multi_conn,
  .pread = card_pread,
  .pwrite = card_pwrite,
  .flush = card_flush,
  .errno_is_preserved = 1,
};

NBDKIT_REGISTER_PLUGIN(plugin)
