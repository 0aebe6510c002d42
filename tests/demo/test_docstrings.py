from tvm_balanced.demo.docstrings import docstrings


def test_docstrings_are_many_distinct_and_always_the_same():
    found = docstrings()
    assert len(found) > 2000
    assert len({doc.summary for doc in found}) == len(found)
    assert found == docstrings()
    assert all(len(doc.summary) >= 20 and len(doc.body) >= 80 for doc in found)
