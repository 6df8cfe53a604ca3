"""The bank world's own currency table: ISO 4217 number to letters and decimals, kept apart from core's on purpose.

A wrong exponent or number in one of the two tables shows up as a difference between the books and the truth.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from msgspec import Struct


class BankCurrency(Struct, frozen=True):
    """A currency: its letters in lower case and the decimals of its minor unit."""

    letters: str
    decimals: int


_WITHOUT_DECIMALS: Final = (
    "108bif 152clp 174kmf 262djf 324gnf 352isk 392jpy 410krw 548vuv 600pyg 646rwf 704vnd 800ugx 950xaf 952xof 953xpf"
)
_TWO_DECIMALS: Final = (
    "008all 012dzd 032ars 036aud 044bsd 050bdt 051amd 052bbd 060bmd 068bob 072bwp 084bzd 090sbd 096bnd 104mmk "
    "116khr 124cad 132cve 136kyd 144lkr 156cny 170cop 188crc 203czk 208dkk 214dop 230etb 238fkp 242fjd 270gmd "
    "292gip 320gtq 328gyd 332htg 340hnl 344hkd 348huf 356inr 360idr 376ils 388jmd 398kzt 404kes 417kgs 418lak "
    "422lbp 426lsl 430lrd 446mop 454mwk 458myr 462mvr 480mur 484mxn 496mnt 498mdl 504mad 516nad 524npr 533awg "
    "554nzd 558nio 566ngn 578nok 586pkr 590pab 598pgk 604pen 608php 634qar 643rub 654shp 682sar 690scr 702sgd "
    "706sos 710zar 748szl 752sek 756chf 764thb 776top 780ttd 784aed 807mkd 818egp 826gbp 834tzs 840usd 858uyu "
    "860uzs 882wst 886yer 901twd 933byn 941rsd 943mzn 944azn 946ron 949try 951xcd 967zmw 968srd 969mga 971afn "
    "972tjs 973aoa 976cdf 977bam 978eur 980uah 981gel 985pln 986brl"
)
_THREE_DECIMALS: Final = "048bhd 368iqd 400jod 414kwd 434lyd 512omr 788tnd"


def _read(table: str, decimals: int) -> Iterator[tuple[str, BankCurrency]]:
    for item in table.split():
        yield item[:3], BankCurrency(item[3:], decimals)


BY_NUMBER: Final[Mapping[str, BankCurrency]] = dict(
    [*_read(_WITHOUT_DECIMALS, 0), *_read(_TWO_DECIMALS, 2), *_read(_THREE_DECIMALS, 3)]
)
BY_LETTERS: Final[Mapping[str, str]] = {currency.letters: number for number, currency in BY_NUMBER.items()}
