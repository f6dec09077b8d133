import torch

from vidact.audit.actors.gaps import MAX_GAP, fill_gaps


def _square(column: int) -> torch.Tensor:
    mask = torch.zeros(9, 20, dtype=torch.bool)
    mask[3:6, column : column + 3] = True
    return mask


def test_a_square_that_moves_evenly_is_restored_where_it_was_not_found() -> None:
    true = torch.stack([_square(2 * frame) for frame in range(8)])
    for numbers in (list(range(8)), [0, 2, 4, 6, 8, 10, 12, 14]):
        holed = true.clone()
        holed[2 : 2 + MAX_GAP] = False
        assert torch.equal(fill_gaps(holed, numbers), true)


def test_frames_out_of_order_are_filled_by_their_neighbours_in_time() -> None:
    order = [4, 0, 3, 1, 3, 2]
    true = torch.stack([_square(3 * number) for number in order])
    holed = true.clone()
    holed[[2, 4, 5]] = False
    assert torch.equal(fill_gaps(holed, order), true)


def test_long_gaps_and_both_ends_stay_empty() -> None:
    mask = torch.stack([_square(5)] * (MAX_GAP + 6))
    mask[[0, -1]] = False
    mask[2 : 3 + MAX_GAP] = False
    assert torch.equal(fill_gaps(mask, range(len(mask))), mask)
    nobody = torch.zeros_like(mask)
    assert torch.equal(fill_gaps(nobody, range(len(mask))), nobody)
