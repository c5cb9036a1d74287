from __future__ import annotations

from supernet.trust.tables import lead_text


def test_the_winners_lead_has_an_interval() -> None:
    def result(first: list[float], second: list[float], **more: object) -> dict[str, object]:
        rows = [{"rank": rank, "validation": values} for rank, values in enumerate((first, second), start=1)]
        return {"networks": rows, "metric": "accuracy", **more}

    text = lead_text(result([0.75], [0.5], validation_examples=1600))
    half = 1.96 * (0.75 * 0.25 / 1600 + 0.5 * 0.5 / 1600) ** 0.5
    assert f"ahead of the next by 25.0 points ({25 - 100 * half:.1f} to {25 + 100 * half:.1f}, by the choice" in text
    assert lead_text(result([0.75], [0.5])) == "" == lead_text({**result([0.75], [0.5]), "metric": "r2"})
    assert "2 trainings each)" in lead_text(result([0.75, 0.76], [0.5, 0.53]))
    assert lead_text({"networks": [{"rank": 1, "validation": [0.5]}]}) == ""
