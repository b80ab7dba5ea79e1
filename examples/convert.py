#!/usr/bin/env python3
"""Makes the two examples on real data from their public sources.

    convert.py focus-aws  focus_sample.csv                    writes focus-aws/{usage.jsonl,catalogue.yaml,hierarchy.yaml,expected.csv,expected.json}
    convert.py llm-tokens AzureLLMInferenceTrace_code.csv     writes llm-tokens/{usage.csv,expected.json}

Nothing is looked up elsewhere and no number passes through a float. Each expected.json is computed here with Python's
own exact numbers, not by Reckoner: it is what the bill is checked against. Hand-written files (the contract, the
llm-tokens catalogue and hierarchy, the READMEs) stay as they are.
"""

import csv
import json
import sys
from collections import defaultdict
from decimal import ROUND_HALF_UP, Decimal, getcontext
from fractions import Fraction
from pathlib import Path

HERE = Path(__file__).resolve().parent
getcontext().prec = 60  # far more than any product here needs, so that Decimal never rounds on its own


def plain(value):
    """A decimal as the shortest plain string: 0.0000004, never 4E-7."""
    text = format(Decimal(value), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def rounded(value, decimals):
    """An exact fraction rounded once, half up, ties away from zero."""
    step = Fraction(10) ** decimals
    scaled = abs(value) * step
    whole = (scaled.numerator * 2 + scaled.denominator) // (2 * scaled.denominator)
    return Fraction(whole if value >= 0 else -whole, 1) / step


def text_of(value):
    """A fraction whose decimals end, as a plain string."""
    digits = 30
    scaled = value * 10**digits
    assert scaled.denominator == 1
    return plain(Decimal(scaled.numerator).scaleb(-digits))


def divided(total, weights):
    """`total` (at 12 decimals) over sorted keys in proportion to weights, parts rounded down, the rest to the largest
    remainders, ties in key order."""
    steps = total * 10**12
    assert steps.denominator == 1
    whole, parts, rests = sum(weights.values()), {}, []
    for key in sorted(weights):
        exact = steps * weights[key] / whole if whole else Fraction(0)
        parts[key] = exact.numerator // exact.denominator
        rests.append((-(exact - parts[key]), key))
    for _, key in sorted(rests)[: int(steps) - sum(parts.values())]:
        parts[key] += 1
    return {key: Fraction(part, 10**12) for key, part in parts.items()}


# ---- focus-aws: 941 usage rows of a real, anonymised bill, replayed as usage


def instant(value):
    """'2024-09-18 22:00:00' (UTC in FOCUS) as RFC 3339."""
    return value.replace(" ", "T") + "Z"


def focus_aws(source):
    with open(source, newline="", encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if row["ProviderName"] == "AWS" and row["ChargeCategory"] == "Usage"]
    folder = HERE / "focus-aws"
    payer = {row["BillingAccountId"] for row in rows}
    assert len(payer) == 1 and len(rows) == 941
    payer = payer.pop()

    prices, services = {}, defaultdict(set)
    quantities = defaultdict(lambda: defaultdict(Fraction))
    with open(folder / "usage.jsonl", "w", encoding="utf-8") as usage, open(
        folder / "expected.csv", "w", newline="", encoding="utf-8"
    ) as expected:
        out = csv.writer(expected, lineterminator="\n")
        out.writerow(["id", "account", "sku", "list_cost"])
        for row in rows:
            sku, quantity, rate = row["SkuPriceId"], Decimal(row["PricingQuantity"]), Decimal(row["ListUnitPrice"])
            cost = (quantity * rate).quantize(Decimal("1e-10"), ROUND_HALF_UP)
            assert cost == Decimal(row["ListCost"]), row["Id"]
            price = (plain(rate), row["PricingUnit"], row["ChargeDescription"])
            assert prices.setdefault(sku, price) == price, sku
            services[sku].add(row["ServiceName"])
            quantities[sku][row["SubAccountId"]] += Fraction(quantity)
            record = {
                "id": row["Id"],
                "account": row["SubAccountId"],
                "service": row["ServiceName"],
                "usage_type": sku,
                "operation": row["PricingCategory"],
                "region": row["RegionId"],
                "quantity": plain(quantity),
                "start": instant(row["ChargePeriodStart"]),
                "end": instant(row["ChargePeriodEnd"]),
                "attributes": {},
            }
            usage.write(json.dumps(record, ensure_ascii=False) + "\n")
            out.writerow([row["Id"], row["SubAccountId"], sku, plain(row["ListCost"])])

    # What the bill must say: one ladder a SKU over all accounts, one rounding a SKU at 12 decimals.
    skus, accounts = {}, defaultdict(Fraction)
    for sku, per_account in quantities.items():
        skus[sku] = rounded(sum(per_account.values()) * Fraction(prices[sku][0]), 12)
        for account, part in divided(skus[sku], per_account).items():
            accounts[account] += part
    total = sum(skus.values())
    write_json(
        folder / "expected.json",
        {
            "records": len(rows),
            "exact_total": text_of(total),
            "payable": text_of(rounded(total, 2)),
            "sum_of_list_cost": plain(sum(Decimal(row["ListCost"]) for row in rows)),
            "accounts": {key: text_of(accounts[key]) for key in sorted(accounts)},
            "skus": {key: text_of(skus[key]) for key in sorted(skus)},
        },
    )
    write_focus_catalogue(folder / "catalogue.yaml", prices, services)
    write_focus_hierarchy(folder / "hierarchy.yaml", payer, sorted(accounts))


def write_focus_catalogue(path, prices, services):
    lines = [
        "# The 239 prices that the sample's rows were charged at, each at the row's own unit price and unit.",
        "# A meter is declared for each service that used a price; a SKU prices all of them together.",
        "kind: Catalogue",
        "name: focus-aws",
        "currency: USD",
        "effective: 2024-09",
        "meters:",
    ]
    for sku in sorted(prices):
        for service in sorted(services[sku]):
            meter = quoted(f"{service}/{sku}")
            lines.append(f"  - {{ id: {meter}, service: {quoted(service)}, usage_type: {quoted(sku)} }}")
    lines.append("skus:")
    for sku in sorted(prices):
        rate, unit, description = prices[sku]
        lines += [
            f"  - id: {quoted(sku)}",
            f"    name: {quoted(description)}",
            f"    match: {{ usage_type: {quoted(sku)} }}",
            f"    unit: {quoted(unit)}",
            f"    rate: {quoted(rate)}",
        ]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_focus_hierarchy(path, payer, accounts):
    lines = [
        "# One payer and its linked accounts. Cycles are calendar months, closed by hand: `reckoner bills close`.",
        "kind: Hierarchy",
        f"root: {quoted(payer)}",
        "catalogue: focus-aws",
        "accounts:",
    ]
    lines += [f"  - {{ id: {quoted(account)} }}" for account in accounts]
    lines += ["cycles:", "  first: 2024-09", "  close: manual"]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def quoted(value):
    """A YAML double-quoted string; JSON's is one."""
    return json.dumps(value, ensure_ascii=False)


# ---- llm-tokens: one hour of a real inference service, two meters an event

# Six teams of one company. Row n goes to the n-th of these, over and over: real tokens, invented owners.
TEAMS = ["chat", "search", "chat", "code-review", "chat", "support", "search", "chat", "docs", "batch"]

# The catalogue's ladders as (up to, per million): all accounts climb one ladder together, each step holds (from, up to].
LADDERS = {
    "input-tokens": [(5_000_000, "2.50"), (15_000_000, "2.00"), (None, "1.50")],
    "output-tokens": [(100_000, "10.00"), (200_000, "8.00"), (None, "6.00")],
}
# The contract's cross-service discount, in percent of what the earlier stages left.
PERCENT = "7.5"


def llm_tokens(source):
    folder = HERE / "llm-tokens"
    tokens = {meter: defaultdict(int) for meter in LADDERS}
    with open(source, newline="", encoding="utf-8") as file, open(folder / "usage.csv", "w", encoding="utf-8") as usage:
        usage.write("id,account,service,usage_type,operation,region,quantity,start\n")
        for number, row in enumerate(csv.DictReader(file)):
            account = TEAMS[number % len(TEAMS)]
            start = row["TIMESTAMP"].replace(" ", "T").rstrip("0").rstrip(".") + "Z"
            for meter, service, letter, column in (
                ("input-tokens", "prompt", "i", "ContextTokens"),
                ("output-tokens", "completion", "o", "GeneratedTokens"),
            ):
                count = int(row[column])
                tokens[meter][account] += count
                usage.write(f"{number + 1}{letter},{account},{service},{meter},code,azure,{count},{start}\n")

    # Each ladder once over all teams, each slice rounded once at 12 decimals, then divided over the teams by quantity.
    # The discount is taken once for each team and meter, rounded at 12 decimals.
    charges, accounts, discount = {}, defaultdict(Fraction), Fraction(0)
    for meter, ladder in LADDERS.items():
        charged_here = defaultdict(Fraction)
        quantity, begin = sum(tokens[meter].values()), 0
        charges[meter] = []
        for bound, per_million in ladder:
            units = min(quantity, bound or quantity) - begin
            amount = rounded(Fraction(units, 1_000_000) * Fraction(per_million), 12)
            charges[meter].append({"tokens": units, "per_million": per_million, "amount": text_of(amount)})
            for account, part in divided(amount, tokens[meter]).items():
                charged_here[account] += part
            begin = bound
        for account, amount in charged_here.items():
            accounts[account] += amount
            discount += rounded(amount * Fraction(PERCENT) / 100, 12)
    charged = sum(accounts.values())
    total = charged - discount
    write_json(
        folder / "expected.json",
        {
            "calls": number + 1,
            "records": 2 * (number + 1),
            "tokens": {meter: sum(per_account.values()) for meter, per_account in tokens.items()},
            "charges": charges,
            "charged": text_of(charged),
            "charged_per_account": {key: text_of(accounts[key]) for key in sorted(accounts)},
            "discount_percent": PERCENT,
            "discount": text_of(discount),
            "exact_total": text_of(total),
            "payable": text_of(rounded(total, 2)),
        },
    )


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    examples = {"focus-aws": focus_aws, "llm-tokens": llm_tokens}
    if len(sys.argv) != 3 or sys.argv[1] not in examples:
        sys.exit(__doc__)
    examples[sys.argv[1]](sys.argv[2])
