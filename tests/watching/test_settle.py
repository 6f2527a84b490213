from cellwatch.watching.settle import Settler, Sighting


def test_a_file_that_stands_still_settles_after_the_quiet_time():
    settler = Settler(2.0)
    settler.see(Sighting("a", 10, 1), 0.0)
    settler.see(Sighting("a", 10, 1), 1.9)

    assert settler.settled(1.9) == []
    assert settler.settled(2.0) == [Sighting("a", 10, 1)]


def test_growth_starts_the_clock_anew():
    settler = Settler(2.0)
    settler.see(Sighting("a", 10, 1), 0.0)
    settler.see(Sighting("a", 20, 1), 1.5)

    assert settler.settled(3.0) == []
    assert [s.size for s in settler.settled(3.5)] == [20]


def test_a_new_time_with_the_same_size_starts_the_clock_anew():
    settler = Settler(2.0)
    settler.see(Sighting("a", 10, 1), 0.0)
    settler.see(Sighting("a", 10, 2), 1.5)

    assert settler.settled(2.5) == []


def test_the_oldest_settled_comes_first_and_forgotten_ones_never():
    settler = Settler(1.0)
    for index, name in enumerate("cab"):
        settler.see(Sighting(name, 1, 1), float(index))
    settler.forget("a")

    assert [s.path for s in settler.settled(10)] == ["c", "b"]
    assert len(settler) == 2


def test_of_those_that_were_found_together_the_one_that_was_written_first_comes_first():
    settler = Settler(1.0)
    for name, written in (("t10", 30), ("t2", 20), ("t1", 20), ("t0", 10)):
        settler.see(Sighting(name, 1, written), 0.0)

    assert [s.path for s in settler.settled(10)] == ["t0", "t1", "t2", "t10"]
