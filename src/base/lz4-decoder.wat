;; Decodes one LZ4 block. `lz4-decoder.ts` holds the binary; `test/unit/lz4-decoder.test.ts` assembles this and compares.
;;
;; Memory: the block from byte 0 on, at most 1 MiB; what it stands for from byte 1114112 (17 pages) on, at most 1 MiB. Behind each of them a page
;; is left, as copies are made in steps of 16 bytes and may read and write up to 15 bytes too many: what comes next in the plain bytes
;; is written over them, and what stands behind them is never handed out.
;;
;; decode(sourceBytes, stop, plainBytes): the number of plain bytes there are, or -1 if the block is none or stands for more than `plainBytes`. It
;; ends with the block's last literals, or as soon as there are `stop` of them: with a `stop` beyond `plainBytes` the block is decoded whole.
(module
  (memory (export "memory") 34)
  (func (export "decode") (param $sourceBytes i32) (param $stop i32) (param $plainBytes i32) (result i32)
    (local $source i32) (local $target i32) (local $end i32) (local $from i32)
    (local $sourceEnd i32) (local $plainEnd i32)
    (local $token i32) (local $length i32) (local $byte i32) (local $offset i32)
    (local.set $sourceEnd (local.get $sourceBytes))
    (local.set $target (i32.const 1114112))
    (local.set $stop (i32.add (i32.const 1114112) (local.get $stop)))
    (local.set $plainEnd (i32.add (i32.const 1114112) (local.get $plainBytes)))
    (loop $sequence
      (if (i32.ge_u (local.get $source) (local.get $sourceEnd)) (then (return (i32.const -1))))
      (local.set $token (i32.load8_u (local.get $source)))
      (local.set $source (i32.add (local.get $source) (i32.const 1)))

      ;; Literals: their number, in the token and then in bytes of which all but the last are 255.
      (local.set $length (i32.shr_u (local.get $token) (i32.const 4)))
      (if (i32.eq (local.get $length) (i32.const 15)) (then
        (loop $more
          (if (i32.ge_u (local.get $source) (local.get $sourceEnd)) (then (return (i32.const -1))))
          (local.set $byte (i32.load8_u (local.get $source)))
          (local.set $source (i32.add (local.get $source) (i32.const 1)))
          (local.set $length (i32.add (local.get $length) (local.get $byte)))
          (br_if $more (i32.eq (local.get $byte) (i32.const 255))))))
      (if (i32.gt_u (local.get $length) (i32.sub (local.get $sourceEnd) (local.get $source))) (then (return (i32.const -1))))
      (if (i32.gt_u (local.get $length) (i32.sub (local.get $plainEnd) (local.get $target))) (then (return (i32.const -1))))
      (local.set $end (i32.add (local.get $target) (local.get $length)))
      (local.set $from (local.get $source))
      (local.set $source (i32.add (local.get $source) (local.get $length)))
      (loop $literals
        (i64.store align=1 (local.get $target) (i64.load align=1 (local.get $from)))
        (i64.store offset=8 align=1 (local.get $target) (i64.load offset=8 align=1 (local.get $from)))
        (local.set $from (i32.add (local.get $from) (i32.const 16)))
        (local.set $target (i32.add (local.get $target) (i32.const 16)))
        (br_if $literals (i32.lt_u (local.get $target) (local.get $end))))
      (local.set $target (local.get $end))
      (if (i32.or (i32.eq (local.get $source) (local.get $sourceEnd)) (i32.ge_u (local.get $target) (local.get $stop)))
        (then (return (i32.sub (local.get $target) (i32.const 1114112)))))

      ;; A match: how far back, and its number of bytes, from 4 on.
      (if (i32.lt_u (i32.sub (local.get $sourceEnd) (local.get $source)) (i32.const 2)) (then (return (i32.const -1))))
      (local.set $offset (i32.load16_u align=1 (local.get $source)))
      (local.set $source (i32.add (local.get $source) (i32.const 2)))
      (local.set $from (i32.sub (local.get $target) (local.get $offset)))
      (if (i32.or (i32.eqz (local.get $offset)) (i32.lt_u (local.get $from) (i32.const 1114112))) (then (return (i32.const -1))))
      (local.set $length (i32.and (local.get $token) (i32.const 15)))
      (if (i32.eq (local.get $length) (i32.const 15)) (then
        (loop $more
          (if (i32.ge_u (local.get $source) (local.get $sourceEnd)) (then (return (i32.const -1))))
          (local.set $byte (i32.load8_u (local.get $source)))
          (local.set $source (i32.add (local.get $source) (i32.const 1)))
          (local.set $length (i32.add (local.get $length) (local.get $byte)))
          (br_if $more (i32.eq (local.get $byte) (i32.const 255))))))
      (local.set $length (i32.add (local.get $length) (i32.const 4)))
      (if (i32.gt_u (local.get $length) (i32.sub (local.get $plainEnd) (local.get $target))) (then (return (i32.const -1))))
      (local.set $end (i32.add (local.get $target) (local.get $length)))
      ;; 8 bytes and 8 more: with an offset below 16 the second ones are among those that the first ones were copied to.
      (if (i32.ge_u (local.get $offset) (i32.const 8))
        (then (loop $match
          (i64.store align=1 (local.get $target) (i64.load align=1 (local.get $from)))
          (i64.store offset=8 align=1 (local.get $target) (i64.load offset=8 align=1 (local.get $from)))
          (local.set $from (i32.add (local.get $from) (i32.const 16)))
          (local.set $target (i32.add (local.get $target) (i32.const 16)))
          (br_if $match (i32.lt_u (local.get $target) (local.get $end)))))
        (else (if (i32.eq (local.get $offset) (i32.const 1))
          (then (memory.fill (local.get $target) (i32.load8_u (local.get $from)) (local.get $length)))
          ;; Its own bytes are what it repeats: one at a time.
          (else (loop $bytes
            (i32.store8 (local.get $target) (i32.load8_u (local.get $from)))
            (local.set $from (i32.add (local.get $from) (i32.const 1)))
            (local.set $target (i32.add (local.get $target) (i32.const 1)))
            (br_if $bytes (i32.lt_u (local.get $target) (local.get $end))))))))
      (local.set $target (local.get $end))
      (br_if $sequence (i32.lt_u (local.get $target) (local.get $stop))))
    (i32.sub (local.get $target) (i32.const 1114112))))
