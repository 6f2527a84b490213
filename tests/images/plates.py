"""Plates and series as the programs of instruments write them, small."""

import json
import struct

import numpy as np
import tifffile

RNG = np.random.default_rng(5)
WELLS = ("B02", "C03")
SIDE = 24


def plane(n):
    return (RNG.integers(1, 200, (SIDE, SIDE)) + 10 * n).astype(np.uint16)


def write_operetta(folder, wells=WELLS, fields=(1, 2), channels=("DAPI", "GFP"), make=plane):
    """Write a plate of Operetta; return its index, and the planes by well, field and channel."""
    folder.mkdir(parents=True, exist_ok=True)
    entries, planes = [], {}
    for well in wells:
        row, column = ord(well[0]) - ord("A") + 1, int(well[1:])
        for field in fields:
            for channel, name in enumerate(channels, start=1):
                file = f"r{row:02d}c{column:02d}f{field:02d}p01-ch{channel}sk1fk1fl1.tiff"
                planes[well, field, channel] = make(len(planes))
                tifffile.imwrite(folder / file, planes[well, field, channel])
                entries.append(
                    f"<Image><URL>{file}</URL><Row>{row}</Row><Col>{column}</Col>"
                    f"<FieldID>{field}</FieldID><PlaneID>1</PlaneID><TimepointID>0</TimepointID>"
                    f"<ChannelID>{channel}</ChannelID><ChannelName>{name}</ChannelName>"
                    '<ImageResolutionX Unit="m">5E-07</ImageResolutionX>'
                    '<ImageResolutionY Unit="m">5E-07</ImageResolutionY></Image>'
                )
    index = folder / "Index.idx.xml"
    namespace = "http://www.perkinelmer.com/PEHH/HarmonyV5"
    listed = f"<Images>{''.join(entries)}</Images>"
    index.write_text(f'<EvaluationInputData xmlns="{namespace}">{listed}</EvaluationInputData>')
    return index, planes


def write_cellvoyager(folder):
    """Write a plate of CellVoyager of one well, two fields, two z, with shading files."""
    folder.mkdir()
    records, planes = [], {}
    for field in (1, 2):
        for z in (1, 2):
            file = f"run_D08_T0001F{field:03d}L01A01Z{z:02d}C01.tif"
            planes[field, z] = plane(len(planes))
            tifffile.imwrite(folder / file, planes[field, z])
            records.append(
                f'<b:MeasurementRecord b:Type="IMG" b:Column="8" b:Row="4" b:TimePoint="1" '
                f'b:FieldIndex="{field}" b:ZIndex="{z}" b:Ch="1">{file}</b:MeasurementRecord>'
            )
    tifffile.imwrite(folder / "SC_BP445-45_20x.tif", plane(0))
    namespace = 'xmlns:b="http://www.yokogawa.co.jp/BTS/BTSSchema/1.0"'
    index = folder / "MeasurementData.mlf"
    index.write_text(f"<b:MeasurementData {namespace}>{''.join(records)}</b:MeasurementData>")
    (folder / "MeasurementDetail.mrf").write_text(
        f'<b:MeasurementDetail {namespace}><b:MeasurementChannel b:Ch="1" '
        'b:HorizontalPixelDimension="0.325" b:VerticalPixelDimension="0.325"/>'
        "</b:MeasurementDetail>"
    )
    return index, planes


def write_imagexpress(folder, *, late=(), planned=0):
    """Write a plate of two wells and two time points; `late`: channels of the first one alone."""
    folder.mkdir()
    planes = {}
    rows = "\n".join(
        f'"WellsSelection{n}", ' + ", ".join("TRUE" if (n, c) in ((2, 2), (3, 3)) else "FALSE"
                                             for c in range(1, 5))
        for n in range(1, 4)
    )  # fmt: skip
    said = f'"Description", "plate \xe4"\n"YWells", 3\n{rows}\n"WaveName1", "DAPI"\n'
    said += '"WaveName2", "Cy5"\n' + (f'"TimePoints", {planned}\n' if planned else "")
    said += '"EndFile"\n'
    index = folder / "9987.HTD"
    index.write_bytes(said.encode("latin-1"))
    for t in (1, 2):
        inside = folder / f"TimePoint_{t}"
        inside.mkdir()
        (inside / "9987.HTD").write_bytes(index.read_bytes())
        for well in WELLS:
            for wave in (1, 2):
                if wave in late and t > 1:
                    continue
                planes[well, t, wave] = plane(len(planes))
                tifffile.imwrite(inside / f"9987_{well}_s1_w{wave}.TIF", planes[well, t, wave])
            tifffile.imwrite(inside / f"9987_{well}_s1_w1_thumb.TIF", plane(0))
    return index, planes


def write_metamorph(folder):
    """Write a series of MetaMorph: two stage positions, two waves, of which one has a single z."""
    folder.mkdir()
    stacks = {}
    for stage in (1, 2):
        for wave, name, depth in ((1, "Conf640", 1), (2, "Conf488", 3)):
            stacks[stage, wave] = np.stack([plane(n) for n in range(depth)])
            tifffile.imwrite(
                folder / f"cells_w{wave}{name}_s{stage}.tif", stacks[stage, wave],
                photometric="minisblack",
            )  # fmt: skip
    index = folder / "cells.nd"
    index.write_text(
        '"NDInfoFile", Version 1.0\n"DoStage", TRUE\n"NStagePositions", 2\n"Stage1", "left"\n'
        '"Stage2", "right"\n"DoWave", TRUE\n"NWavelengths", 2\n"WaveName1", "Conf640"\n'
        '"WaveName2", "Conf488"\n"DoTimelapse", FALSE\n"EndFile"\n'
    )
    return index, stacks


def write_ndtiff(folder, axes, um=0.65):
    """Write an NDTiff dataset, with a plane for each of the axes that are given as mappings."""
    folder.mkdir(parents=True)
    data, entries, planes = bytearray(b"II*\0" + bytes(24)), b"", []
    for each in axes:
        planes.append(plane(len(planes)))
        said = json.dumps({"PixelSizeUm": um, "Channel": str(each.get("channel", ""))}).encode()
        start = len(data)
        data += planes[-1].tobytes() + said
        name, key = b"run_NDTiffStack.tif", json.dumps(each).encode()
        numbers = (start, SIDE, SIDE, 1, 0, start + planes[-1].nbytes, len(said), 0)
        entries += struct.pack("<I", len(key)) + key + struct.pack("<I", len(name)) + name
        entries += struct.pack("<8I", *numbers)
    (folder / "run_NDTiffStack.tif").write_bytes(bytes(data))
    (folder / "NDTiff.index").write_bytes(entries)
    return folder / "NDTiff.index", planes
