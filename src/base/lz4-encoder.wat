;; Encodes one LZ4 block and looks longer for matches than an encoder for the data path may. `lz4-encoder.ts` holds the binary;
;; `test/unit/lz4-encoder.test.ts` assembles this and compares.
;;
;; Places that begin with the same 4 bytes (or with others of the same hash) are a chain: `heads` has the last one of each hash, `chain` the one before each place. Both hold
;; places plus one, so that 0 is none. Of each chain the last `depth` places are looked at. A match is put off by a byte while it becomes longer by that.
;;
;; Memory: the plain bytes from byte 0 on, at most 65536; `heads` from byte 131072 on, 16384 times 2 bytes, cleared by each call; `chain` from byte 196608
;; on, 65536 times 2 bytes, of which nothing is read before it was written; the block from byte 327680 on, at most 65536. A page is left behind the plain bytes and
;; the block, as literals are copied in steps of 16 bytes and may read and write up to 15 too many: what comes next in the block is written over them.
;;
;; encode(plainBytes, depth, most): the length of the block, or 0 if that would be more than `most`, which is 65536 at most.
(module
  (memory (export "memory") 7)
  ;; The first place that is in no chain yet.
  (global $unchained (mut i32) (i32.const 0))
  ;; Where the longest match that was found begins.
  (global $found (mut i32) (i32.const 0))

  ;; Where `heads` has the place of the hash of 4 bytes.
  (func $headOf (param $word i32) (result i32)
    (i32.add (i32.const 131072)
      (i32.shl (i32.shr_u (i32.mul (local.get $word) (i32.const 0x9e3779b1)) (i32.const 18)) (i32.const 1))))

  ;; Puts a place, which is the first that is in no chain, into its chain; returns the place before it there, plus one.
  (func $chained (param $at i32) (param $word i32) (result i32)
    (local $head i32) (local $before i32)
    (local.set $head (call $headOf (local.get $word)))
    (local.set $before (i32.load16_u (local.get $head)))
    (i32.store16 (local.get $head) (i32.add (local.get $at) (i32.const 1)))
    (i32.store16 offset=196608 (i32.shl (local.get $at) (i32.const 1)) (local.get $before))
    (global.set $unchained (i32.add (local.get $at) (i32.const 1)))
    (local.get $before))

  ;; How many bytes from `at` on, up to `end`, are as those from `from` on, of which 4 are known to be.
  (func $alike (param $at i32) (param $from i32) (param $end i32) (result i32)
    (local $start i32) (local $differ i64)
    (local.set $start (local.get $at))
    (local.set $at (i32.add (local.get $at) (i32.const 4)))
    (local.set $from (i32.add (local.get $from) (i32.const 4)))
    (block $single
      (loop $words
        (br_if $single (i32.gt_u (i32.add (local.get $at) (i32.const 8)) (local.get $end)))
        (local.set $differ (i64.xor (i64.load align=1 (local.get $at)) (i64.load align=1 (local.get $from))))
        (if (i64.ne (local.get $differ) (i64.const 0)) (then
          (return (i32.add
            (i32.sub (local.get $at) (local.get $start))
            (i32.shr_u (i32.wrap_i64 (i64.ctz (local.get $differ))) (i32.const 3))))))
        (local.set $at (i32.add (local.get $at) (i32.const 8)))
        (local.set $from (i32.add (local.get $from) (i32.const 8)))
        (br $words)))
    (block $done
      (loop $bytes
        (br_if $done (i32.ge_u (local.get $at) (local.get $end)))
        (br_if $done (i32.ne (i32.load8_u (local.get $at)) (i32.load8_u (local.get $from))))
        (local.set $at (i32.add (local.get $at) (i32.const 1)))
        (local.set $from (i32.add (local.get $from) (i32.const 1)))
        (br $bytes)))
    (i32.sub (local.get $at) (local.get $start)))

  ;; The length of the longest match for `at` that is longer than `best` and ends at `end` at the latest, and `found` where that begins; else 0.
  (func $find (param $at i32) (param $best i32) (param $end i32) (param $depth i32) (result i32)
    (local $word i32) (local $candidate i32) (local $length i32) (local $isFound i32)
    (block $all
      (loop $insert
        (br_if $all (i32.ge_u (global.get $unchained) (local.get $at)))
        (drop (call $chained (global.get $unchained) (i32.load align=1 (global.get $unchained))))
        (br $insert)))
    (local.set $word (i32.load align=1 (local.get $at)))
    (local.set $candidate (call $chained (local.get $at) (local.get $word)))
    (block $end
      (loop $next
        (br_if $end (i32.eqz (local.get $candidate)))
        (br_if $end (i32.eqz (local.get $depth)))
        (local.set $depth (i32.sub (local.get $depth) (i32.const 1)))
        (local.set $candidate (i32.sub (local.get $candidate) (i32.const 1)))
        ;; The byte that would make it longer is what most of them fail at.
        (if (i32.eq (i32.load8_u (i32.add (local.get $candidate) (local.get $best))) (i32.load8_u (i32.add (local.get $at) (local.get $best)))) (then
          (if (i32.eq (i32.load align=1 (local.get $candidate)) (local.get $word)) (then
            (local.set $length (call $alike (local.get $at) (local.get $candidate) (local.get $end)))
            (if (i32.gt_u (local.get $length) (local.get $best)) (then
              (local.set $best (local.get $length))
              (local.set $isFound (i32.const 1))
              (global.set $found (local.get $candidate))
              (br_if $end (i32.eq (i32.add (local.get $at) (local.get $length)) (local.get $end)))))))))
        (local.set $candidate (i32.load16_u offset=196608 (i32.shl (local.get $candidate) (i32.const 1))))
        (br $next)))
    (select (local.get $best) (i32.const 0) (local.get $isFound)))

  ;; Writes what a length has beyond the 15 that a token holds, if it has; returns the end.
  (func $putLength (param $target i32) (param $length i32) (result i32)
    (if (i32.lt_u (local.get $length) (i32.const 15)) (then (return (local.get $target))))
    (local.set $length (i32.sub (local.get $length) (i32.const 15)))
    (block $short
      (loop $long
        (br_if $short (i32.lt_u (local.get $length) (i32.const 255)))
        (i32.store8 (local.get $target) (i32.const 255))
        (local.set $target (i32.add (local.get $target) (i32.const 1)))
        (local.set $length (i32.sub (local.get $length) (i32.const 255)))
        (br $long)))
    (i32.store8 (local.get $target) (local.get $length))
    (i32.add (local.get $target) (i32.const 1)))

  ;; Writes a token, whose other half is `match`, and literals; returns the end.
  (func $putLiterals (param $target i32) (param $from i32) (param $length i32) (param $match i32) (result i32)
    (local $end i32)
    (i32.store8 (local.get $target) (i32.or
      (i32.shl (select (local.get $length) (i32.const 15) (i32.lt_u (local.get $length) (i32.const 15))) (i32.const 4))
      (select (local.get $match) (i32.const 15) (i32.lt_u (local.get $match) (i32.const 15)))))
    (local.set $target (call $putLength (i32.add (local.get $target) (i32.const 1)) (local.get $length)))
    (local.set $end (i32.add (local.get $target) (local.get $length)))
    (block $done
      (loop $literals
        (br_if $done (i32.ge_u (local.get $target) (local.get $end)))
        (i64.store align=1 (local.get $target) (i64.load align=1 (local.get $from)))
        (i64.store offset=8 align=1 (local.get $target) (i64.load offset=8 align=1 (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 16)))
        (local.set $target (i32.add (local.get $target) (i32.const 16)))
        (br $literals)))
    (local.get $end))

  ;; The most that a token, literals and a match take.
  (func $mostOf (param $literals i32) (param $match i32) (result i32)
    (i32.add (i32.add (local.get $literals) (i32.const 5))
      (i32.add (i32.div_u (local.get $literals) (i32.const 255)) (i32.div_u (local.get $match) (i32.const 255)))))

  (func (export "encode") (param $plainBytes i32) (param $depth i32) (param $most i32) (result i32)
    (local $at i32) (local $from i32) (local $length i32) (local $longer i32)
    (local $anchor i32) (local $target i32) (local $targetEnd i32)
    (memory.fill (i32.const 131072) (i32.const 0) (i32.const 32768))
    (global.set $unchained (i32.const 0))
    (local.set $target (i32.const 327680))
    (local.set $targetEnd (i32.add (i32.const 327680) (local.get $most)))
    (block $rest
      (loop $sequence
        ;; No match begins in the last 12 bytes, and none has any of the last 5: so the format wants it.
        (br_if $rest (i32.gt_s (local.get $at) (i32.sub (local.get $plainBytes) (i32.const 12))))
        (local.set $length (call $find (local.get $at) (i32.const 3) (i32.sub (local.get $plainBytes) (i32.const 5)) (local.get $depth)))
        ;; The longer there was no match, the more places are passed over, and kept out of the chains: of noise few are looked at.
        (if (i32.eqz (local.get $length)) (then
          (local.set $at (i32.add (i32.add (local.get $at) (i32.const 1)) (i32.shr_u (i32.sub (local.get $at) (local.get $anchor)) (i32.const 6))))
          (global.set $unchained (local.get $at))
          (br $sequence)))
        (block $best
          (loop $later
            (br_if $best (i32.ge_s (local.get $at) (i32.sub (local.get $plainBytes) (i32.const 12))))
            (local.set $longer (call $find (i32.add (local.get $at) (i32.const 1)) (local.get $length) (i32.sub (local.get $plainBytes) (i32.const 5)) (local.get $depth)))
            (br_if $best (i32.eqz (local.get $longer)))
            (local.set $at (i32.add (local.get $at) (i32.const 1)))
            (local.set $length (local.get $longer))
            (br $later)))
        (local.set $from (global.get $found))
        ;; What stands before both may be the same, too.
        (block $whole
          (loop $before
            (br_if $whole (i32.or (i32.eq (local.get $at) (local.get $anchor)) (i32.eqz (local.get $from))))
            (br_if $whole (i32.ne (i32.load8_u (i32.sub (local.get $at) (i32.const 1))) (i32.load8_u (i32.sub (local.get $from) (i32.const 1)))))
            (local.set $at (i32.sub (local.get $at) (i32.const 1)))
            (local.set $from (i32.sub (local.get $from) (i32.const 1)))
            (local.set $length (i32.add (local.get $length) (i32.const 1)))
            (br $before)))
        (if (i32.gt_u (i32.add (local.get $target) (call $mostOf (i32.sub (local.get $at) (local.get $anchor)) (local.get $length))) (local.get $targetEnd)) (then (return (i32.const 0))))
        (local.set $target (call $putLiterals (local.get $target) (local.get $anchor) (i32.sub (local.get $at) (local.get $anchor)) (i32.sub (local.get $length) (i32.const 4))))
        (i32.store16 align=1 (local.get $target) (i32.sub (local.get $at) (local.get $from)))
        (local.set $target (call $putLength (i32.add (local.get $target) (i32.const 2)) (i32.sub (local.get $length) (i32.const 4))))
        (local.set $at (i32.add (local.get $at) (local.get $length)))
        (local.set $anchor (local.get $at))
        (br $sequence)))
    (local.set $length (i32.sub (local.get $plainBytes) (local.get $anchor)))
    (if (i32.gt_u (i32.add (local.get $target) (call $mostOf (local.get $length) (i32.const 0))) (local.get $targetEnd)) (then (return (i32.const 0))))
    (i32.sub (call $putLiterals (local.get $target) (local.get $anchor) (local.get $length) (i32.const 0)) (i32.const 327680))))
