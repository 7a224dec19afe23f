import pytest

from simloop.policies.bench.gpu_kernels import Launches, launches

PROGRAM = """HloModule jit_call, is_scheduled=true

%fused_product (p0: bf16[4,8], p1: bf16[8,16]) -> bf16[4,16] {
  %p0 = bf16[4,8]{1,0} parameter(0)
  %p1 = bf16[8,16]{1,0} parameter(1)
  ROOT %dot.1 = bf16[4,16]{1,0} dot(%p0, %p1), lhs_contracting_dims={1}, rhs_contracting_dims={0}
}

%looked_up (p0.1: bf16[1000,16], p1.1: s32[4]) -> bf16[4,16] {
  %p0.1 = bf16[1000,16]{1,0} parameter(0)
  %p1.1 = s32[4]{0} parameter(1)
  ROOT %gather.1 = bf16[4,16]{1,0} gather(%p0.1, %p1.1), offset_dims={1}
}

%written (p0.2: f32[100,16], p1.2: bf16[4,16], p2.2: s32[]) -> f32[100,16] {
  %p0.2 = f32[100,16]{1,0} parameter(0)
  %p1.2 = bf16[4,16]{1,0} parameter(1)
  %p2.2 = s32[] parameter(2)
  %wide = f32[4,16]{1,0} convert(%p1.2)
  ROOT %put = f32[100,16]{1,0} dynamic-update-slice(%p0.2, %wide, %p2.2, %p2.2)
}

%turn (state: (f32[100,16], s32[])) -> (f32[100,16], s32[]) {
  %state = (f32[100,16]{1,0}, s32[]) parameter(0)
  %slots = f32[100,16]{1,0} get-tuple-element(%state), index=0
  %i = s32[] get-tuple-element(%state), index=1
  %next = s32[] add(%i, %i)
  %lt = (f32[100,16]{1,0}, s8[64]{0}) custom-call(%slots, %slots), custom_call_target="__cublas$lt$matmul"
  %out = f32[100,16]{1,0} get-tuple-element(%lt), index=0
  ROOT %both = (f32[100,16]{1,0}, s32[]) tuple(%out, %next)
}

ENTRY %main (a: bf16[4,8], w: bf16[8,16], t: bf16[1000,16], ids: s32[4], slots: f32[100,16]) -> f32[100,16] {
  %a = bf16[4,8]{1,0} parameter(0)
  %w = bf16[8,16]{1,0} parameter(1)
  %t = bf16[1000,16]{1,0} parameter(2)
  %ids = s32[4]{0} parameter(3)
  %slots.1 = f32[100,16]{1,0} parameter(4)
  %zero = s32[] constant(0)
  %product = bf16[4,16]{1,0} fusion(%a, %w), kind=kCustom, calls=%fused_product
  %rows = bf16[4,16]{1,0} fusion(%t, %ids), kind=kLoop, calls=%looked_up
  %attended = (bf16[4,16]{1,0}, u8[0]{0}) custom-call(%product, %rows), custom_call_target="__cudnn$fmhaSoftmax"
  %o = bf16[4,16]{1,0} get-tuple-element(%attended), index=0
  %put.1 = f32[100,16]{1,0} fusion(%slots.1, %o, %zero), kind=kLoop, calls=%written
  %start = (f32[100,16]{1,0}, s32[]) tuple(%put.1, %zero)
  %loop = (f32[100,16]{1,0}, s32[]) while(%start), condition=%going_on, body=%turn
  ROOT %result = f32[100,16]{1,0} get-tuple-element(%loop), index=0
}
"""


def test_every_launch_has_its_kind_and_the_bytes_that_it_moves():
    once, each_turn = launches(PROGRAM)
    rows = 4 * 16 * 2
    assert once["product"] == Launches(1, 4 * 8 * 2 + 8 * 16 * 2 + rows)
    assert once["attention"] == Launches(1, 3 * rows)
    looked_up = rows + 4 * 4 + rows  # Of the table, the rows that are asked for.
    written = rows + 4 + 4 * 16 * 4  # Of the slots, those that are new.
    assert once["other"] == Launches(2, looked_up + written)
    slots = 100 * 16 * 4
    assert each_turn["product"] == Launches(1, 3 * slots + 64)
    assert each_turn["other"] == Launches(1, 3 * 4)


def test_what_is_no_program_is_refused():
    with pytest.raises(ValueError, match="no ENTRY"):
        launches("HloModule nothing\n")
